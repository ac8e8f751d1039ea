"""The columns of a list of images: those of the image, the label and the split.

In: the names of the columns, and what the options say. Out: the chosen columns.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipform.pipelines.decoding.image_file import ENDINGS
from slipform.pipelines.errors import DatasetError, printable, unknown
from slipform.preprocess.layouts.contract import Hints
from slipform.preprocess.layouts.label_names import Label

__all__ = [
    "Columns",
    "advice",
    "as_label",
    "check_sum",
    "choose_columns",
    "label_column",
    "text_of",
]

# The usual names, the more certain ones first.
_IMAGE = (
    *("file_name", "filename", "file_path", "filepath", "image_path", "imagepath", "img_path"),
    *("image_file", "image_name", "imagename", "img_name", "path", "image", "img", "file"),
    *("image_id", "imageid", "photo", "photo_id", "id_code", "id", "name", "fname"),
)
_LABEL = (
    *("label", "labels", "class", "classes", "class_name", "classname", "label_name", "category"),
    *("categories", "category_name", "target", "targets", "tag", "tags", "species", "breed"),
    *("variety", "diagnosis", "fine_label", "class_id", "label_id", "category_id", "y"),
)
_SPLIT = ("split", "set", "subset", "partition", "data_set", "phase")
_SEVERAL = {"labels", "classes", "categories", "targets", "tags"}
_SHOWN = 8
_SUM_TOLERANCE = 1e-3  # of shares that were rounded
_SEPARATORS = re.compile(r"[;|]")


@dataclass(frozen=True)
class Columns:
    """The columns of a list.

    Attributes:
        image: The column with the image.
        label: The column with the label or labels. "": `classes` has them.
        split: The column with the split. "": there is none.
        classes: Columns with a number for each class.
    """

    image: str
    label: str
    split: str = ""
    classes: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """The names of all columns."""
        return [name for name in (self.image, self.label, self.split, *self.classes) if name]

    def __str__(self) -> str:
        """The names, as text for people."""
        most = self.classes[:_SHOWN]
        rest = len(self.classes) - len(most)
        names = [name for name in (self.image, self.label, self.split, *most) if name]
        return ", ".join(map(printable, names)) + (f" and {rest} more" if rest else "")


def choose_columns(names: Sequence[str], hints: Hints, path: Path) -> Columns | None:
    """Choose the columns.

    Args:
        names: The columns that exist.
        hints: The columns that the options name.
        path: The list, for messages.

    Returns:
        The columns. None: no column has a usual name for an image, or none for a label.

    Raises:
        DatasetError: A column that an option names does not exist, or is named twice.
    """
    given = (hints.image_column, hints.label_column, hints.split_column)
    for name in given:
        if name and name not in names:
            raise unknown("column", name, names, DatasetError, where=f"in {path}")
        if name and given.count(name) > 1:
            raise DatasetError(f"{path}: the column {printable(name)} cannot have two meanings.")
    classes = [name.strip() for name in hints.class_columns.split(",")]
    others = [name for name in names if name not in given and name not in classes]
    image, label, split = (
        name or _usual(usual, others)
        for name, usual in zip(given, (_IMAGE, _LABEL, _SPLIT), strict=True)
    )
    if hints.class_columns and image:
        return Columns(image, "", split, _of_classes(names, classes, (image, split), path))
    return Columns(image, label, split) if image and label else None


def advice(names: Sequence[str], hints: Hints) -> str:
    """What to do about a table whose columns have no usual names.

    Args:
        names: The columns that exist; `choose_columns` has found none for the image or the label.
        hints: The columns that the options name.

    Returns:
        A sentence that names the options.
    """
    if any(name.strip().lower().endswith(ENDINGS) for name in names):
        return "Its first line names an image: write a first line with names, such as path,label"
    if hints.image_column or _usual(_IMAGE, names):
        return "Name that of the labels: --label-column COLUMN, or --class-columns A,B,C"
    if hints.label_column or _usual(_LABEL, names):
        return "Name that of the images: --image-column COLUMN"
    return (
        "Name those of the images and labels: --image-column and --label-column or --class-columns"
    )


def _of_classes(
    names: Sequence[str], chosen: Sequence[str], others: Sequence[str], path: Path
) -> tuple[str, ...]:
    """The columns that --class-columns names."""
    if chosen == ["others"] and "others" not in names:
        # pandas writes its index as a column without a name.
        return tuple(name for name in names if name not in others and name.strip())
    for name in chosen:
        if name not in names:
            raise unknown("column", name, names, DatasetError, where=f"in {path}")
        if name in others or chosen.count(name) > 1:
            raise DatasetError(f"{path}: the column {printable(name)} cannot have two meanings.")
    return tuple(chosen)


def label_column(names: Sequence[str], hints: Hints) -> str:
    """The column with the label.

    Args:
        names: The columns, or keys, that exist.
        hints: The column that the options name.

    Returns:
        Its name. "": there is none.
    """
    if hints.label_column:
        return hints.label_column if hints.label_column in names else ""
    return _usual(_LABEL, names)


def _usual(usual: Iterable[str], names: Sequence[str]) -> str:
    plain = {re.sub(r"[\s\-]+", "_", name.strip().lower()): name for name in names}
    return next((plain[name] for name in usual if name in plain), "")


def text_of(value: Any) -> str:
    """A value of a column as text, such as a path or a split.

    Args:
        value: Any value. None stands for no value.

    Returns:
        The text without spaces around it. 0 is "0".

    Raises:
        ValueError: It is a list or an object.
    """
    if value is not None and not isinstance(value, str | int | float):
        raise ValueError(f"a {type(value).__name__} is no text")
    return "" if value is None else str(value).strip()


def as_label(value: Any, column: str) -> Label:
    """A value of a column as label.

    Args:
        value: Text, a number, a truth value, a list of such, an object with a share of each class,
            or None.
        column: Name of the column. Text in a column such as "labels" is divided at ; and |.

    Returns:
        The label.

    Raises:
        ValueError: It is none.
    """
    if isinstance(value, str) and column.strip().lower() in _SEVERAL:
        parts = [part.strip() for part in _SEPARATORS.split(value)]
        return parts[0] if len(parts) == 1 else [part for part in parts if part]
    if isinstance(value, list | tuple):
        return [one for one in map(_as_one, value) if one is not None]
    return _as_shares(value) if isinstance(value, dict) else _as_one(value)


def _as_shares(value: dict[Any, Any]) -> dict[str, float] | None:
    """Shares of classes as label. None: there are no shares."""
    found = {str(name): share for name, share in value.items() if share is not None}
    for name, share in found.items():
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            raise ValueError(
                "a dict is no label, unless it has a share of each class, 0 to 1:"
                f" {printable(name)} has {printable(str(share))[:40]}"
            )
        if not name.strip():
            raise ValueError("a share has no class")
    if not found:
        return None
    check_sum(found.values())
    return found


def check_sum(shares: Collection[float]) -> None:
    """Check that shares of classes sum to 1.

    Args:
        shares: The shares of an image.

    Raises:
        ValueError: They have another sum.
    """
    if abs(math.fsum(shares) - 1) > _SUM_TOLERANCE:
        raise ValueError(f"the shares sum to {math.fsum(shares):g}: give shares that sum to 1")


def _as_one(value: Any) -> str | int | None:
    """A value as one label."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        if value != value:  # how pandas writes no value
            return None
        if value.is_integer():
            return int(value)
        raise ValueError(f"{value} is a measurement, not a class")
    if value is None or isinstance(value, str | int):
        return value
    raise ValueError(f"a {type(value).__name__} is no label")
