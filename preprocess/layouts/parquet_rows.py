"""The rows of Parquet files that hold the bytes of images.

In: Parquet files with the same columns. Out: `Rows`. Labels are read at once, images one row group
at a time, when they are asked for.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from slipform.pipelines.errors import DatasetError, printable
from slipform.preprocess.layouts.class_names import read_class_names
from slipform.preprocess.layouts.contract import Hints
from slipform.preprocess.layouts.label_cells import as_label
from slipform.preprocess.layouts.label_names import Label
from slipform.preprocess.layouts.label_rows import Rows
from slipform.preprocess.layouts.list_columns import text_of
from slipform.preprocess.layouts.parquet_columns import ImageColumn, find_columns, named
from slipform.preprocess.layouts.parquet_file import SMALLER, batches, opened

__all__ = ["read_parquet"]

_GROUP_BYTES = 2 << 30  # the limit of a row group, encoded and decoded
_LABEL_BYTES = 256 << 20  # the limit of its labels, splits and paths
_CACHE_BYTES = 512 << 20
_MAX_IMAGE_BYTES = 1 << 30


@dataclass(frozen=True)
class _Group:
    """A row group."""

    file: str
    number: int
    first: int  # its first row, over all files
    file_first: int  # the first row of its file


@dataclass(frozen=True)
class _Loaded:
    """The images of a row group.

    Attributes:
        batches: Arrays of pyarrow.
        starts: The first row of each, within the group.
        bytes: How much memory they take.
        fault: Why the group cannot be read. "": it can.
    """

    batches: Sequence[Any]
    starts: Sequence[int]
    bytes: int
    fault: str = ""


@dataclass
class _Groups:
    """Images by row, over all files. The row groups that were read last are kept."""

    root: Path
    column: ImageColumn
    groups: list[_Group]
    starts: npt.NDArray[np.int64]
    paths: Sequence[str]
    cache: OrderedDict[int, _Loaded] = field(default_factory=OrderedDict)
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
            loaded = self.cache.get(number)
            if loaded is None:
                loaded = self.cache[number] = self._load(self.groups[number])
                while len(self.cache) > 2 and self._cached_bytes() > _CACHE_BYTES:
                    self.cache.popitem(last=False)
            self.cache.move_to_end(number)
        if loaded.fault:
            raise ValueError(loaded.fault)
        batch = bisect_right(loaded.starts, position) - 1
        value = loaded.batches[batch][position - loaded.starts[batch]].as_py()
        if not value:
            raise ValueError("the row holds no bytes of an image")
        if len(value) > _MAX_IMAGE_BYTES:
            raise ValueError(f"{len(value):,} bytes are more than an image may have")
        return bytes(value)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy in another process has a cache of its own."""
        return _Groups, (self.root, self.column, self.groups, self.starts, self.paths)

    def num_bytes(self, index: int) -> int:
        """See `Store`. Row groups do not say the sizes of their rows."""
        return 0

    def _cached_bytes(self) -> int:
        return sum(loaded.bytes for loaded in self.cache.values())

    def _load(self, group: _Group) -> _Loaded:
        """Read the images of a row group. A fault is kept, so that it is found once."""
        path, name = self.root / group.file, self.column.name
        columns = [f"{name}.bytes" if self.column.parts else name]
        try:
            with opened(path) as file:
                images = [
                    self.column.values(batch, "bytes")
                    for batch in batches(file, path, group.number, columns, _GROUP_BYTES)
                ]
        except DatasetError as error:
            return _Loaded([], [], 0, error.message)
        starts = [0, *accumulate(len(batch) for batch in images)][:-1]
        return _Loaded(images, starts, sum(batch.nbytes for batch in images))


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
        with opened(root / name) as file:
            image, label, split, names = find_columns(root / name, file.schema_arrow, hints)
            first = first or (image, label, split, names)
            if first != (image, label, split, names):
                raise DatasetError(
                    f"{root / name} has other columns or classes than {files[0]}. Give the folder"
                    " of one configuration as --source."
                )
            file_first, ours = len(labels), None if hints.class_names else names
            for number in range(file.metadata.num_row_groups):
                group = file.metadata.row_group(number)
                if group.total_byte_size > _GROUP_BYTES:
                    raise DatasetError(
                        f"{root / name} has a row group of {group.total_byte_size:,} bytes."
                        f" {SMALLER}"
                    )
                groups.append(_Group(name, number, len(labels), file_first))
                wanted = [column for column in (label, split) if column]
                wanted += [f"{image.name}.path"] if "path" in image.parts else []
                for batch in batches(file, root / name, number, wanted, _LABEL_BYTES):
                    labels += _labels(root / name, batch, label, ours, hints.label_separator)
                    splits += (
                        _texts(root / name, batch, split)
                        if split
                        else [split_of(name)] * batch.num_rows
                    )
                    paths += (
                        [str(value or "") for value in image.values(batch, "path").to_pylist()]
                        if "path" in image.parts
                        else [""] * batch.num_rows
                    )
            classes = names
    assert first is not None, "there is a file"
    if hints.class_names is not None:
        classes = read_class_names(hints.class_names)
    starts = np.array([group.first for group in groups], np.int64)
    store = _Groups(root, first[0], groups, starts, paths)
    columns = f"columns {printable(first[0].name)}, {printable(first[1])}"
    return Rows(store, labels, splits, classes, columns)


def _labels(
    path: Path, batch: Any, column: str, classes: Sequence[str] | None, separator: str
) -> list[Label]:
    """The labels in a record batch. Numbers of a ClassLabel become names; its -1 stands for no
    label."""
    values = batch.column(batch.schema.get_field_index(column)).to_pylist()
    try:
        return [named(as_label(value, column, separator), classes) for value in values]
    except ValueError as error:
        raise DatasetError(f"{path}, column {printable(column)}: {error}.") from None


def _texts(path: Path, batch: Any, column: str) -> list[str]:
    """The values of a column as text."""
    values = batch.column(batch.schema.get_field_index(column)).to_pylist()
    try:
        return [text_of(value) for value in values]
    except ValueError as error:
        raise DatasetError(f"{path}, column {printable(column)}: {error}.") from None
