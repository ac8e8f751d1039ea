"""The rows of Parquet files that hold the bytes of images.

In: Parquet files with the same columns. Out: `Rows`. Labels are read at once, images one row group
at a time, when they are asked for.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from slipform.pipelines.errors import ConfigError, DatasetError, printable
from slipform.preprocess.layouts.class_names import read_class_names
from slipform.preprocess.layouts.contract import Hints
from slipform.preprocess.layouts.label_rows import Label, Rows
from slipform.preprocess.layouts.list_columns import as_label, choose_columns

__all__ = ["read_parquet"]

_GROUP_BYTES = 2 << 30  # the largest row group that is read
_CACHE_BYTES = 512 << 20
_MAX_IMAGE_BYTES = 1 << 30


@dataclass(frozen=True)
class _Column:
    """A column with images: "image.bytes" of a struct, or "image" alone."""

    bytes: str
    path: str


@dataclass(frozen=True)
class _Group:
    """A row group."""

    file: str
    number: int
    first: int  # its first row, over all files
    file_first: int  # the first row of its file


@dataclass
class _Groups:
    """Images by row, over all files. The row groups that were read last are kept."""

    root: Path
    column: _Column
    groups: list[_Group]
    starts: npt.NDArray[np.int64]
    paths: Sequence[str]
    cache: OrderedDict[int, Any] = field(default_factory=OrderedDict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def _at(self, index: int) -> tuple[int, int]:
        """The row group of a row, and its position in it."""
        number = int(np.searchsorted(self.starts, index, "right")) - 1
        return number, index - self.groups[number].first

    def name(self, index: int) -> str:
        """See `Store`."""
        group = self.groups[self._at(index)[0]]
        path = f" {self.paths[index]}" if self.paths[index] else ""
        return f"{group.file}:{index - group.file_first}{path}"

    def read(self, index: int) -> bytes:
        """See `Store`."""
        number, position = self._at(index)
        with self.lock:
            column = self.cache.get(number)
            if column is None:
                column = self.cache[number] = self._load(self.groups[number])
                while len(self.cache) > 2 and _size(self.cache.values()) > _CACHE_BYTES:
                    self.cache.popitem(last=False)
            self.cache.move_to_end(number)
        value = column[position].as_py()
        if not value:
            raise ValueError("the row holds no bytes of an image")
        if len(value) > _MAX_IMAGE_BYTES:
            raise ValueError(f"{len(value):,} bytes are more than an image may have")
        return bytes(value)

    def _load(self, group: _Group) -> Any:
        """The column of bytes of a row group."""
        try:
            with _opened(self.root / group.file) as file:
                table = file.read_row_group(group.number, columns=[self.column.bytes])
        except DatasetError as error:
            raise ValueError(error.message) from None
        return _flat(table, self.column.bytes)


def _size(columns: Any) -> int:
    return sum(column.nbytes for column in columns)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """An open Parquet file. Exceptions of pyarrow become a DatasetError."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise ConfigError(
            "Parquet files need pyarrow. Install it: pip install 'slipform[parquet]'"
        ) from None
    try:
        with parquet.ParquetFile(path, pre_buffer=False) as file:
            yield file
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        if isinstance(error, DatasetError) or getattr(error, "errno", None):
            raise
        reason = printable(str(error).split("\n", 1)[0])
        raise DatasetError(f"{path} is damaged: {reason}. Download it again.") from None


def _flat(table: Any, name: str) -> Any:
    """A column of a table by its name, or a part of a struct: "image.bytes"."""
    column = table
    parts = [name] if name in table.column_names else name.split(".")
    column = table.column(parts[0])
    return column.combine_chunks().field(parts[1]) if len(parts) > 1 else column


def read_parquet(
    root: Path, files: Sequence[str], hints: Hints, split_of: Callable[[str], str]
) -> Rows:
    """Read labels and splits, and find the images.

    Args:
        root: A folder.
        files: Paths below it.
        hints: The columns and class names that the options name.
        split_of: The split that a path means, for files without a column of splits.

    Returns:
        The rows, in the order of the files. Their rule names the columns.

    Raises:
        ConfigError: pyarrow is not installed.
        DatasetError: A file is damaged, the files have different columns, or it is not clear which
            column holds the image or the label.
    """
    groups = list[_Group]()
    labels, splits, paths = list[Label](), list[str](), list[str]()
    classes: Sequence[str] | None = None
    first: tuple[Any, ...] | None = None
    for name in files:
        with _opened(root / name) as file:
            image, label, split, names = _columns(root / name, file.schema_arrow, hints)
            first = first or (image, label, split, names)
            if first != (image, label, split, names):
                raise DatasetError(
                    f"{root / name} has other columns or classes than {files[0]}. Give the folder"
                    " of one configuration as --source."
                )
            file_first = len(labels)
            for number in range(file.metadata.num_row_groups):
                group = file.metadata.row_group(number)
                if group.total_byte_size > _GROUP_BYTES:
                    raise DatasetError(
                        f"{root / name} has a row group of {group.total_byte_size:,} bytes. Write"
                        " it again with smaller row groups (pyarrow: row_group_size=100)."
                    )
                groups.append(_Group(name, number, len(labels), file_first))
                wanted = [column for column in (label, split, image.path) if column]
                table = file.read_row_group(number, columns=wanted)
                if table.num_rows != group.num_rows:
                    raise DatasetError(f"{root / name} is damaged. Download it again.")
                labels += _labels(root / name, table, label, names)
                splits += (
                    [str(value or "") for value in _flat(table, split).to_pylist()]
                    if split
                    else [split_of(name)] * table.num_rows
                )
                paths += (
                    [str(value or "") for value in _flat(table, image.path).to_pylist()]
                    if image.path
                    else [""] * table.num_rows
                )
            classes = names
    assert first is not None, "there is a file"
    if hints.class_names is not None:
        classes = read_class_names(hints.class_names)
    starts = np.array([group.first for group in groups], np.int64)
    store = _Groups(root, first[0], groups, starts, paths)
    columns = f"columns {printable(first[0].bytes)}, {printable(first[1])}"
    return Rows(store, labels, splits, classes, columns)


def _labels(path: Path, table: Any, column: str, classes: Sequence[str] | None) -> list[Label]:
    """The labels of a row group. -1 of a ClassLabel stands for no label."""
    try:
        found = [as_label(value, column) for value in _flat(table, column).to_pylist()]
    except ValueError as error:
        raise DatasetError(f"{path}, column {printable(column)}: {error}.") from None
    return [None if classes is not None and label == -1 else label for label in found]


def _columns(
    path: Path, schema: Any, hints: Hints
) -> tuple[_Column, str, str, tuple[str, ...] | None]:
    """The columns of image, label and split, and the names of the classes."""
    features = _features(path, schema)
    images = [name for name in schema.names if _holds_bytes(schema.field(name).type)]
    typed = [name for name in images if _kind(features.get(name)) == "Image"]
    numbered = [name for name in schema.names if _class_names(features.get(name)) is not None]
    image = hints.image_column or _single(typed or images, path, "images", "--image-column")
    label = hints.label_column or (
        _single(numbered, path, "labels", "--label-column") if numbered else ""
    )
    chosen = choose_columns(schema.names, Hints("", image, label, hints.split_column), path)
    if chosen is None:
        raise DatasetError(
            f"{path} has the columns {', '.join(map(printable, schema.names))}. Name the one with"
            " the label: --label-column"
        )
    if image not in images:
        raise DatasetError(f"{path}: the column {printable(image)} holds no bytes of images.")
    kind = schema.field(image).type
    parts = [kind.field(i).name for i in range(kind.num_fields)]
    column = (
        _Column(f"{image}.bytes", f"{image}.path" if "path" in parts else "")
        if parts
        else _Column(image, "")
    )
    names = _class_names(features.get(chosen.label))
    split = chosen.split if chosen.split not in (image, chosen.label) else ""
    return column, chosen.label, split, names


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


def _class_names(feature: Any) -> tuple[str, ...] | None:
    """The names of a ClassLabel, or of a list of them. None: the column is not one."""
    if isinstance(feature, list) and len(feature) == 1:  # as older versions wrote a list
        return _class_names(feature[0])
    if _kind(feature) in ("List", "LargeList", "Sequence"):
        return _class_names(feature.get("feature"))
    names = feature.get("names") if _kind(feature) == "ClassLabel" else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None
    return tuple(names)
