"""The columns of a list of images: those of the image, the label and the split.

In: the names of the columns, and what the options say. Out: the chosen columns.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipform.pipelines.errors import DatasetError, unknown
from slipform.preprocess.layouts.contract import Hints
from slipform.preprocess.layouts.label_rows import Label

__all__ = ["Columns", "as_label", "choose_columns", "label_column"]

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
_SEPARATORS = re.compile(r"\s*[;|]\s*")


@dataclass(frozen=True)
class Columns:
    """The columns of a list.

    Attributes:
        image: The column with the image.
        label: The column with the label or labels.
        split: The column with the split. "": there is none.
    """

    image: str
    label: str
    split: str = ""


def choose_columns(names: Sequence[str], hints: Hints, place: Path) -> Columns | None:
    """Choose the columns.

    Args:
        names: The columns that exist.
        hints: The columns that the options name.
        place: The list, for messages.

    Returns:
        The columns. None: no column has a usual name for an image, or none for a label.

    Raises:
        DatasetError: A column that an option names does not exist, or two could hold the label.
    """
    image = _named(hints.image_column, names, place) or _usual(_IMAGE, names)
    label = _named(hints.label_column, names, place) or _usual(_LABEL, names)
    split = _named(hints.split_column, names, place) or _usual(_SPLIT, names)
    return Columns(image, label, split) if image and label else None


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


def _named(name: str, names: Sequence[str], place: Path) -> str:
    """The column that an option names. "": the option is not given."""
    if name and name not in names:
        raise unknown(f"column in {place}", name, names, DatasetError)
    return name


def _usual(usual: Iterable[str], names: Sequence[str]) -> str:
    plain = {re.sub(r"[\s\-]+", "_", name.strip().lower()): name for name in names}
    return next((plain[name] for name in usual if name in plain), "")


def as_label(value: Any, column: str) -> Label:
    """A value of a column as label.

    Args:
        value: Text, a number, a truth value, a list of such, or None.
        column: Name of the column. Text in a column such as "labels" is divided at ; and |.

    Returns:
        The label.

    Raises:
        ValueError: It is none.
    """
    if isinstance(value, str) and column.strip().lower() in _SEVERAL:
        if not _SEPARATORS.search(value):
            return value.strip()
        return [part for part in _SEPARATORS.split(value.strip()) if part]
    if isinstance(value, list | tuple):
        return [one for item in value if not isinstance(one := as_label(item, ""), list | None)]
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
