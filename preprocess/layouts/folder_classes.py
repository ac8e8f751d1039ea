"""The names of classes whose images lie in folders of these names.

In: the folders by split. Out: the classes, and the folders of each.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path

from slipform.pipelines.errors import DatasetError, printable
from slipform.preprocess.class_folders import holds_image, leave_out_folder, readable
from slipform.preprocess.listing import Listing

__all__ = ["name_classes", "some_folders"]


def name_classes(
    root: Path, found: dict[str, list[str]], listing: Listing
) -> list[tuple[str, dict[str, list[str]]]]:
    """Name the classes. A name in two Unicode forms is one class.

    Args:
        root: A folder.
        found: By split: the paths of folders below `root`.
        listing: Folders without images are noted in it.

    Returns:
        (class name, its folders by split), sorted.

    Raises:
        DatasetError: Names differ in case only, and one has no training images.
    """
    forms: dict[str, dict[str, list[str]]] = {}
    spelled: dict[str, set[str]] = {}
    for split, paths in found.items():
        for path in paths:
            name = path.rsplit("/", 1)[-1]
            if not holds_image(root, path):
                leave_out_folder(root, path, "folder without images", listing)
                continue
            if readable(name) != name:
                listing.notes.append(f"{readable(name)}: the folder's name is not UTF-8.")
            key = unicodedata.normalize("NFC", readable(name))
            spelled.setdefault(key, set()).add(readable(name))
            forms.setdefault(key, {}).setdefault(split, []).append(path)
    for key, names in spelled.items():
        if len(names) > 1:
            listing.notes.append(f"{printable(key)} is one class: its name has two Unicode forms.")
    _check_case(root, forms, found)
    named = {key if len(names) > 1 else next(iter(names)): key for key, names in spelled.items()}
    return [(name, forms[named[name]]) for name in sorted(named)]


def _check_case(
    root: Path, forms: dict[str, dict[str, list[str]]], found: dict[str, list[str]]
) -> None:
    """Check names that differ in case only. Both must have training images."""
    first = next(iter(found))
    train = "train" if "train" in found else first
    alike: dict[str, list[str]] = {}
    for key in forms:
        alike.setdefault(key.casefold(), []).append(key)
    for keys in alike.values():
        if len(keys) > 1 and not all(train in forms[key] for key in keys):
            paths = [f"{path}/" for key in keys for paths in forms[key].values() for path in paths]
            raise DatasetError(
                f"{root}: {some_folders(paths, slash=False)} differ in upper and lower case only."
                " Rename one, so that each class has training images."
            )


def some_folders(names: Sequence[str], slash: bool = True) -> str:
    """The first five of many folders, and how many more there are.

    Args:
        names: Their names.
        slash: Whether a slash is put behind each name.
    """
    shown = ", ".join(printable(name) + ("/" if slash else "") for name in names[:5])
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")
