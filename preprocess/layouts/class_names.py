"""The names of classes whose labels are numbers.

In: a folder, or a file that an option names: one name per line, in the order of the numbers. Out:
the names.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from slipform.pipelines.errors import DatasetError
from slipform.pipelines.files import open_regular
from slipform.preprocess.layouts.label_names import Label, names_in, whole_number
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
        labels: The labels. A file in the folder is used if all are numbers of its lines, from 0.
        listing: It is noted in it whether a file in the folder is used.

    Returns:
        The names. None: the names follow from the labels.

    Raises:
        DatasetError: The file of the option cannot be read.
    """
    if given is not None:
        return read_class_names(given)
    present = [folder / name for name in _USUAL if (folder / name).is_file()]
    found = {one for label in labels for one in names_in(label)}
    numbers = {one for one in found if type(one) is int}
    if not present or not numbers or len(numbers) < len(found):
        return None
    try:
        names = read_class_names(present[0])
        reason = _reason_against(names, numbers, present)
    except DatasetError as error:
        reason = error.message
    path = present[0].name
    if reason:
        listing.notes.append(
            f"the classes have numbers as names; {path} is not used: {reason} To use it:"
            f" --class-names {path}"
        )
        return None
    listing.use(path)
    listing.notes.append(f"the names of the classes are those of {path}")
    return names


def _reason_against(names: list[str], numbers: set[int], present: list[Path]) -> str:
    """Why the lines of a file are not the names of these numbers. "": they are."""
    if len(present) > 1:
        return f"{present[1].name} could have the names, too."
    if any(type(whole_number(name)) is int for name in names):
        return "its lines are numbers."
    if min(numbers) < 0 or max(numbers) >= len(names):
        return f"it has {len(names):,} lines, and the labels are {min(numbers)} to {max(numbers)}."
    if min(numbers) == 1 or (0 not in numbers and max(numbers) < len(names) - 1):
        return f"the labels begin at {min(numbers)}, so its first line may be 0 or 1."
    return "a name is there twice." if len(set(names)) < len(names) else ""


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
