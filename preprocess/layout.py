"""The layout of an image folder: one folder per class, or train/, val/ and test/ with such folders.

In: a folder. Out: `Layout`: the classes, and for each split the folders of each class. Nothing is
guessed. A folder that has two possible meanings is an error, whose message names the option that
decides.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from pathlib import Path

from slipform.pipelines.decoding.image_file import ENDINGS
from slipform.pipelines.errors import DatasetError, printable
from slipform.preprocess.class_folders import (
    holds_image,
    image_folders,
    leave_out_folder,
    readable,
)
from slipform.preprocess.listing import Listing

__all__ = ["Layout", "class_folders", "single_folder", "understand"]

_SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True)
class Layout:
    """Classes and splits of a folder.

    Attributes:
        classes: Names of the classes, sorted.
        splits: By split: for each class its folders, as paths below the root. If the folders are
            classes, the only split is "".
    """

    classes: list[str]
    splits: dict[str, list[list[str]]]


def understand(root: Path, layout: str, listing: Listing) -> Layout:
    """Find classes and splits of a folder.

    Args:
        root: The folder.
        layout: "classes": every folder is a class. "splits": train/, val/ and test/ hold the
            classes. "auto": find out.
        listing: The layout, and folders that are left out, are noted in it.

    Returns:
        The layout.

    Raises:
        DatasetError: The folder has two possible meanings, or none.
    """
    folders = image_folders(root, listing)
    named = [name for name in folders if name.lower() in _SPLIT_NAMES]
    explicit = layout != "auto"
    if not explicit:
        layout = _decide(root, folders, named)
    found = _splits(root, folders, named, listing) if layout == "splits" else {"": folders}
    classes = _classes(root, found, listing)
    if not classes:
        raise DatasetError(f"{root} holds no images in its folders ({', '.join(ENDINGS)}).")
    if len(classes) == 1 and not explicit:
        raise DatasetError(
            f'{root} holds one class only, "{printable(classes[0][0])}". Put the images of each'
            f" class into a folder of their own. If one class is meant: --layout {layout}"
        )
    if layout == "classes" and not explicit:
        _check_not_turned_around(root, [folder for _, splits in classes for folder in splits[""]])
    words = {"splits": "folders of splits, in each one folder per class"}
    listing.layout = words.get(layout, "one folder per class")
    names = [name for name, _ in classes]
    return Layout(
        names, {split: [splits.get(split, []) for _, splits in classes] for split in found}
    )


def single_folder(source: Path, listing: Listing) -> Path:
    """Find the folder of the classes or splits. Many archives put it into other folders.

    Args:
        source: The folder where the search begins.
        listing: Entries beside the folder are noted in it.

    Returns:
        The first folder, from `source` downwards, with several folders, with a folder of a split,
        or with a folder that holds no folders.

    Raises:
        DatasetError: A folder holds no folders.
    """
    while True:
        inside = Listing()
        folders = image_folders(source, inside)
        if (
            len(folders) > 1
            or folders[0].lower() in _SPLIT_NAMES
            or not _has_folders(source / folders[0])
        ):
            for entry in sorted(source.iterdir()):
                if not entry.is_dir():
                    listing.leave_out(entry.name, "file beside the folders")
            return source
        for path, reason in inside.left_out:
            listing.leave_out(path, reason)
        for entry in sorted(source.iterdir()):
            if not entry.is_dir():
                listing.leave_out(entry.name, "file beside the folder of all images")
        source = source / folders[0]


def class_folders(root: Path) -> list[str]:
    """The folders that could be classes, or a split with classes.

    Args:
        root: A folder.

    Returns:
        At least two folders of images, or a folder of train with folders of images. Empty: there
        are none.
    """
    try:
        folders = image_folders(root)
    except DatasetError:
        return []
    for name in folders:
        if _SPLIT_NAMES.get(name.lower()) == "train" and _class_folders(root, name, Listing()):
            return [name]
    found = [n for n in folders if n.lower() not in _SPLIT_NAMES and holds_image(root, n)]
    return found if len(found) > 1 else []


def _has_folders(folder: Path) -> bool:
    return any(entry.is_dir() for entry in folder.iterdir())


def _decide(root: Path, folders: list[str], named: list[str]) -> str:
    """ "classes" or "splits", if only one of them is possible."""
    if not named:
        return "classes"
    others = [name for name in folders if name not in named and holds_image(root, name)]
    has_train = any(_SPLIT_NAMES[name.lower()] == "train" for name in named)
    listed = " and ".join(f"{name}/" for name in named)
    if others:
        raise DatasetError(
            f"{root}: {listed} could be a split or a class, beside {_some(others)}."
            " --layout classes takes all of them as classes"
            + ("; --layout splits leaves the others out." if has_train else ".")
        )
    if not has_train:
        raise DatasetError(
            f"{root}: the folder train/ is missing beside {listed}. Add it. If these are classes:"
            " --layout classes"
        )
    return "splits"


def _splits(
    root: Path, folders: list[str], named: list[str], listing: Listing
) -> dict[str, list[str]]:
    """The class folders of each split, as paths below `root`."""
    given: dict[str, str] = {}
    for folder in named:
        split = _SPLIT_NAMES[folder.lower()]
        if split in given:
            raise DatasetError(
                f"{root} holds two folders for the split {split}: {given[split]} and {folder}."
            )
        given[split] = folder
    if "train" not in given:
        raise DatasetError(f"{root}: the folder train/ is missing. --layout classes needs none.")
    for folder in folders:
        if folder not in named:
            leave_out_folder(root, folder, "folder beside those of the splits", listing)
    found = {}
    for split, folder in given.items():
        inside = _class_folders(root, folder, listing)
        if inside:
            found[split] = inside
        elif split == "train":
            raise DatasetError(
                f"{root / folder} holds no folders of images; expected one per class."
                " If it is a class: --layout classes"
            )
        elif holds_image(root, folder):
            leave_out_folder(root, folder, "images without folders of classes", listing)
            listing.notes.append(
                f"{folder}/ holds images without folders of classes, so it is left out."
                " `predict` reads unlabeled images."
            )
        else:
            leave_out_folder(root, folder, "folder without images", listing)
    known = {path.split("/", 1)[1] for path in found["train"]}
    for split in [split for split in found if split != "train"]:
        if not known & {path.split("/", 1)[1] for path in found[split]}:
            folder = given[split]
            del found[split]
            leave_out_folder(root, folder, "none of its folders is a class of train", listing)
            listing.notes.append(
                f"{folder}/ is left out: none of its folders is a class of {given['train']}/."
            )
    return found


def _class_folders(root: Path, folder: str, listing: Listing) -> list[str]:
    """The class folders in the folder of a split, as paths below `root`."""
    inside = Listing()
    try:
        names = image_folders(root / folder, inside)
    except DatasetError:
        names = []
    for path, reason in inside.left_out:
        listing.leave_out(f"{folder}/{path}", reason)
    if not any(holds_image(root, f"{folder}/{name}") for name in names):
        return []
    for entry in sorted((root / folder).iterdir()):
        if not entry.is_dir():
            listing.leave_out(f"{folder}/{entry.name}", "file beside the folders of classes")
    return [f"{folder}/{name}" for name in names]


def _classes(
    root: Path, found: dict[str, list[str]], listing: Listing
) -> list[tuple[str, dict[str, list[str]]]]:
    """(class name, its folders by split), sorted. A name in two Unicode forms is one class."""
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
                f"{root}: {_some(paths, slash=False)} differ in upper and lower case only. Rename"
                " one, so that each class has training images."
            )


def _check_not_turned_around(root: Path, folders: list[str]) -> None:
    """Check that no class folder holds train/ and val/: all splits would be mixed."""
    for folder in folders:
        try:
            inside = image_folders(root / folder)
        except DatasetError:
            continue
        if any(
            _SPLIT_NAMES.get(n.lower()) == "train" and holds_image(root / folder, n) for n in inside
        ):
            raise DatasetError(
                f"{root}: the class folder {printable(folder)}/ holds folders of splits."
                " Exchange the levels: train/CLASS, not CLASS/train. If all images of a class"
                " belong together: --layout classes"
            )


def _some(names: list[str], slash: bool = True) -> str:
    shown = ", ".join(printable(name) + ("/" if slash else "") for name in names[:5])
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")
