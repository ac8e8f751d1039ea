"""The columns of a list of images: those of the image, the label and the split.

In: the names of the columns, and what the options say. Out: the chosen columns.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slipform.pipelines.decoding.image_file import ENDINGS
from slipform.pipelines.errors import DatasetError, printable, unknown
from slipform.preprocess.layouts.contract import Hints

__all__ = [
    "Columns",
    "advice",
    "choose_columns",
    "label_column",
    "split_of_marks",
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
# Columns of true and false, as fastai writes them, and the split of the rows that are true.
_MARKS = {"is_valid": "val", "is_test": "test"}
_TRUTH = {"true": True, "1": True, "false": False, "0": False}
_SHOWN = 8


@dataclass(frozen=True)
class Columns:
    """The columns of a list.

    Attributes:
        image: The column with the image.
        label: The column with the label or labels. "": `classes` has them.
        split: The column with the split. "": there is none.
        classes: Columns with a number for each class.
        marks: If there is no column with the split: column -> split of the rows that are true.
    """

    image: str
    label: str
    split: str = ""
    classes: tuple[str, ...] = ()
    marks: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """The names of all columns."""
        every = (self.image, self.label, self.split, *self.classes, *self.marks)
        return [name for name in every if name]

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
    if not image or not (label or hints.class_columns):
        return None
    numbers: tuple[str, ...] = ()
    if hints.class_columns:
        label, numbers = "", _of_classes(names, classes, (image, split), path)
    free = [name for name in others if name not in (image, label, *numbers)]
    marks = {} if split else {name: _MARKS[_plain(name)] for name in free if _plain(name) in _MARKS}
    return Columns(image, label, split, numbers, marks)


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
    plain = {_plain(name): name for name in names}
    return next((plain[name] for name in usual if name in plain), "")


def _plain(name: str) -> str:
    return re.sub(r"[\s\-]+", "_", name.strip().lower())


def split_of_marks(row: Mapping[str, Any], marks: Mapping[str, str]) -> str:
    """The split that columns of true and false give to a row.

    Args:
        row: The values of the row.
        marks: See `Columns`.

    Returns:
        "train", if all are false. "": there are no such columns, a value is none of True, False, 1
        and 0, or two are true.
    """
    values = [_TRUTH.get(str(row.get(name)).strip().lower().removesuffix(".0")) for name in marks]
    if not values or None in values or sum(map(bool, values)) > 1:
        return ""
    return next(
        (split for split, true in zip(marks.values(), values, strict=True) if true), "train"
    )


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
