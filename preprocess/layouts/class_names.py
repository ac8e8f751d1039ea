"""The names of classes whose labels are numbers.

In: a folder, or a file that an option names: one name per line, in the order of the numbers. Out:
the names.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from slipform.pipelines.errors import DatasetError
from slipform.pipelines.files import open_regular
from slipform.preprocess.layouts.label_rows import Label, whole_number
from slipform.preprocess.listing import Listing

__all__ = ["find_class_names", "read_class_names"]

_USUAL = ("classes.txt", "classnames.txt", "class_names.txt", "labels.txt")
_MAX_BYTES = 64 << 20


def find_class_names(
    folder: Path, given: Path | None, labels: Iterable[Label], listing: Listing
) -> list[str] | None:
    """Find the names of the classes.

    Args:
        folder: Where a file with a usual name is looked for: classes.txt, classnames.txt,
            class_names.txt, labels.txt.
        given: The file that the option names. None: none.
        labels: The labels. A file in the folder is used if all are numbers of its lines.
        listing: The file that is used is noted in it.

    Returns:
        The names. None: the names follow from the labels.

    Raises:
        DatasetError: The file of the option cannot be read.
    """
    if given is not None:
        return read_class_names(given)
    present = [folder / name for name in _USUAL if (folder / name).is_file()]
    if len(present) != 1:
        return None
    found = {
        whole_number(one)
        for label in labels
        for one in (label if isinstance(label, list) else [label])
        if one is not None
    }
    if not found or not all(type(number) is int for number in found):
        return None
    names = read_class_names(present[0])
    if max(found) >= len(names) or min(found) < 0 or len(set(names)) < len(names):  # type: ignore[operator]
        return None
    path = str(present[0].name)
    listing.left_out = [entry for entry in listing.left_out if entry[0] != path]
    listing.notes.append(f"the names of the classes are those of {path}")
    return names


def read_class_names(path: Path) -> list[str]:
    """Read a file with one class name per line.

    Args:
        path: The file.

    Returns:
        The names, without empty lines at the end.

    Raises:
        DatasetError: The file does not exist, is not UTF-8, or holds no name.
    """
    with open_regular(path, DatasetError) as file:
        content = file.read(_MAX_BYTES + 1)
    try:
        if len(content) > _MAX_BYTES:
            raise ValueError
        names = [line.strip() for line in content.decode("utf-8-sig").rstrip().split("\n")]
    except ValueError:
        raise DatasetError(f"{path} is no list of class names in UTF-8.") from None
    if not all(names):
        raise DatasetError(f"{path} has an empty line. Write one class name per line.")
    return names
