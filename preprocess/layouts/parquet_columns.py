"""The columns of a Parquet file: image, label and split; the names of the classes.

In: the schema, with the features that the library datasets wrote into it. Out: the columns.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipform.pipelines.errors import DatasetError, printable
from slipform.preprocess.layouts.contract import Hints
from slipform.preprocess.layouts.label_names import Label
from slipform.preprocess.layouts.list_columns import choose_columns

__all__ = ["ImageColumn", "find_columns", "holds_images", "label_classes", "named"]


@dataclass(frozen=True)
class ImageColumn:
    """A column with images.

    Attributes:
        name: Its name.
        parts: Names of the parts of a struct with bytes and perhaps a path. Empty: the column holds
            bytes.
    """

    name: str
    parts: tuple[str, ...] = ()

    def values(self, batch: Any, part: str) -> Any:
        """The values in a record batch.

        Args:
            batch: A record batch of pyarrow.
            part: "bytes" or "path".

        Returns:
            An array of pyarrow.
        """
        values = batch.column(batch.schema.get_field_index(self.name))
        return values.field(part) if self.parts else values


def find_columns(
    path: Path, schema: Any, hints: Hints
) -> tuple[ImageColumn, str, str, tuple[str, ...] | None]:
    """Find the columns of image, label and split, and the names of the classes.

    Args:
        path: The file, for messages.
        schema: Its schema, of pyarrow.
        hints: The columns that the options name.

    Returns:
        The columns; "" stands for no column of splits. The names of a ClassLabel, or None.

    Raises:
        DatasetError: It is not clear which column holds the image or the label.
    """
    if len(set(schema.names)) < len(schema.names):
        raise DatasetError(f"{path}: two columns have the same name.")
    features = _features(path, schema)
    images = [name for name in schema.names if _holds_bytes(schema.field(name).type)]
    typed = [name for name in images if _kind(features.get(name)) == "Image"]
    numbered = [name for name in schema.names if _class_names(features.get(name)) is not None]
    image = hints.image_column or _single(typed or images, path, "images", "--image-column")
    label = hints.label_column or (
        _single(numbered, path, "labels", "--label-column") if numbered else ""
    )
    wanted = Hints(image_column=image, label_column=label, split_column=hints.split_column)
    chosen = choose_columns(schema.names, wanted, path)
    if chosen is None:
        raise DatasetError(
            f"{path} has the columns {', '.join(map(printable, schema.names))}. Name the one with"
            " the label: --label-column"
        )
    if image not in images:
        raise DatasetError(f"{path}: the column {printable(image)} holds no bytes of images.")
    kind = schema.field(image).type
    parts = tuple(kind.field(i).name for i in range(kind.num_fields))
    names = _class_names(features.get(chosen.label))
    return ImageColumn(image, parts), chosen.label, chosen.split, names


def holds_images(schema: Any) -> bool:
    """Whether a column may hold the bytes of images.

    Args:
        schema: The schema of a file, of pyarrow.
    """
    return any(_holds_bytes(entry.type) for entry in schema)


def label_classes(path: Path, schema: Any, column: str) -> tuple[str, ...] | None:
    """The names of the classes of a column that is a ClassLabel.

    Args:
        path: The file, for messages.
        schema: Its schema, of pyarrow.
        column: The column with the label.

    Returns:
        The names. None: the column is no ClassLabel.

    Raises:
        DatasetError: The metadata of Hugging Face is damaged.
    """
    return _class_names(_features(path, schema).get(column))


def named(label: Label, classes: Sequence[str] | None) -> Label:
    """A label with the names of a ClassLabel instead of its numbers.

    Args:
        label: The label. -1 stands for no label.
        classes: The names of the ClassLabel. None: it is none, and the label stays as it is.

    Raises:
        ValueError: A number is not one of the classes.
    """
    if classes is None or isinstance(label, dict):
        return label
    if isinstance(label, list):
        return [_name(one, classes) for one in label]
    return None if label in (-1, None) else _name(label, classes)


def _name(label: str | int | None, classes: Sequence[str]) -> str:
    """The name of a number of a ClassLabel."""
    if isinstance(label, str):
        return label
    if label is None or not 0 <= label < len(classes):
        raise ValueError(f"{label} is not one of the {len(classes):,} classes")
    return classes[label]


def _single(names: list[str], path: Path, what: str, option: str) -> str:
    if len(names) != 1:
        found = ", ".join(map(printable, names)) or "none"
        raise DatasetError(f"{path}: columns with {what}: {found}. Name one: {option}")
    return names[0]


def _holds_bytes(kind: Any) -> bool:
    """Whether a column holds bytes, or a struct with bytes."""
    from pyarrow import types

    binary = (types.is_binary, types.is_large_binary, types.is_fixed_size_binary)
    if types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and any(test(kind.field(index).type) for test in binary)
    return any(test(kind) for test in binary)


def _features(path: Path, schema: Any) -> dict[str, Any]:
    """The features that the library datasets wrote into the schema's metadata."""
    text = (schema.metadata or {}).get(b"huggingface", b"{}")
    try:
        found = json.loads(text)
        features = found.get("info", {}).get("features", {})
    except (ValueError, RecursionError, AttributeError):
        raise DatasetError(f"{path}: the metadata of Hugging Face is damaged.") from None
    return features if isinstance(features, dict) else {}


def _kind(feature: Any) -> str:
    return str(feature.get("_type", "")) if isinstance(feature, dict) else ""


def _class_names(feature: Any, lists: bool = True) -> tuple[str, ...] | None:
    """The names of a ClassLabel, or of a list of them. None: the column is not one."""
    if lists and isinstance(feature, list) and len(feature) == 1:  # as older versions wrote a list
        return _class_names(feature[0], lists=False)
    if lists and _kind(feature) in ("List", "LargeList", "Sequence"):
        return _class_names(feature.get("feature"), lists=False)
    names = feature.get("names") if _kind(feature) == "ClassLabel" else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None
    return tuple(names)
