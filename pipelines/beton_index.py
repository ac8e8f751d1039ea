"""The header, the metadata and the table of one beton: `read_index`.

In: the bytes of a file. Out: `BetonIndex`, with where each sample lies, its encoding, its size and
its label. All of this is checked: a truncated or foreign file raises DatasetError.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from slipform.pipelines.beton_format import (
    DESCRIPTOR,
    HEADER,
    IMAGE_FIELD,
    INT_FIELD,
    JPG,
    RAW,
    TABLE_ROW,
    VERSION,
    metadata_type,
)
from slipform.pipelines.errors import DatasetError

__all__ = ["BetonIndex", "read_index"]

# A JPEG encodes at most 64 pixels in a bit, which is 512 in a byte. A progressive JPEG of a single
# gray value reaches this. The limit here is twice as high.
_PIXELS_PER_BYTE = 1024
_Bytes = npt.NDArray[np.uint8]
_Int64 = npt.NDArray[np.int64]


class BetonIndex(NamedTuple):
    """Where the samples of a beton lie, and what they are.

    Attributes:
        labels: int64 [N], class numbers.
        modes: uint8 [N], how each image is stored: JPG (0) or RAW (1).
        heights, widths: int32 [N], sizes of the stored images in pixels.
        offsets, sizes: int64 [N], where the bytes of each image are in the file, in bytes.
    """

    labels: _Int64
    modes: _Bytes
    heights: npt.NDArray[np.int32]
    widths: npt.NDArray[np.int32]
    offsets: _Int64
    sizes: _Int64


def read_index(path: Path, data: _Bytes) -> BetonIndex:
    """Read and check the index of a beton.

    Args:
        path: Its path, for messages.
        data: uint8 [bytes], the whole file.

    Raises:
        DatasetError: The file is truncated, or is not a beton.
    """
    return _Reader(path, data).read()


class _Reader:
    def __init__(self, path: Path, data: _Bytes) -> None:
        self._path, self._data = path, data

    def read(self) -> BetonIndex:
        metadata = self._metadata()
        image, label = metadata["image"], metadata["label"]
        offsets = image["data_ptr"].astype(np.int64)
        index = BetonIndex(
            labels=label.astype(np.int64),
            modes=image["mode"].copy(),
            heights=image["height"].astype(np.int32),
            widths=image["width"].astype(np.int32),
            offsets=offsets,
            sizes=self._sizes(offsets),
        )
        self._check_samples(index)
        return index

    def _fail(self, why: str) -> DatasetError:
        return DatasetError(
            f"{self._path} is not a complete beton: {why}. Run prep again, or: prep verify"
            f" {self._path.parent}"
        )

    def _metadata(self) -> npt.NDArray[np.void]:
        """Check header and descriptors. Returns the metadata, with fields `image` and `label`."""
        data = self._data
        if len(data) < HEADER.itemsize:
            raise self._fail(f"{len(data)} bytes are less than a header")
        header = data[: HEADER.itemsize].view(HEADER)[0]
        if header["version"] != VERSION:
            raise self._fail(f"its version is {header['version']}, expected {VERSION}")
        num_samples, num_fields = int(header["num_samples"]), int(header["num_fields"])
        self._table_start = int(header["alloc_table_ptr"])
        start = HEADER.itemsize + num_fields * DESCRIPTOR.itemsize
        if num_fields != 2 or start > len(data):
            raise self._fail(f"it has {num_fields} fields, expected an image and a label")
        if (
            not start <= self._table_start <= len(data)
            or (len(data) - self._table_start) % TABLE_ROW.itemsize
        ):
            raise self._fail(
                f"its table begins at byte {self._table_start} of {len(data)}; the file"
                " was truncated or never finished"
            )
        descriptors = data[HEADER.itemsize : start].view(DESCRIPTOR)
        types = [int(t) for t in descriptors["type_id"]]
        if sorted(types) != [INT_FIELD, IMAGE_FIELD]:
            raise self._fail(
                f"its fields have types {types}, expected one RGB image ({IMAGE_FIELD}) and one"
                f" integer ({INT_FIELD})"
            )
        layout = metadata_type(types)
        end = start + num_samples * layout.itemsize
        if end > self._table_start:
            raise self._fail(f"{num_samples} samples do not fit before its table")
        self._data_start = end
        return data[start:end].view(layout)

    def _sizes(self, offsets: _Int64) -> _Int64:
        """The size of each sample, from the table. ffcv's workers write its rows in any order."""
        table, num = self._data[self._table_start :].view(TABLE_ROW), len(offsets)
        if len(table) != num:
            raise self._fail(f"its table names {len(table)} of {num} samples")
        sizes = np.zeros(num, np.int64)
        if len(table):
            ids = table["sample_id"]
            named = np.zeros(num, bool)
            named[ids[ids < num]] = True  # of as many rows as samples: each once, or one is missing
            if not named.all():
                raise self._fail("its table names a sample twice or one that does not exist")
            sizes[ids] = table["size"].astype(np.int64)
            if not np.array_equal(offsets[ids], table["ptr"].astype(np.int64)):
                raise self._fail("its table and its metadata disagree on where samples lie")
        return sizes

    def _check_samples(self, index: BetonIndex) -> None:
        """Check offsets, sizes, modes and labels of all samples."""
        modes, sizes, heights, widths = index.modes, index.sizes, index.heights, index.widths
        ends_late = index.offsets > self._table_start - sizes
        outside = (index.offsets < self._data_start) | (sizes < 0) | ends_late
        num_pixels = heights.astype(np.int64) * widths
        too_large = (modes == JPG) & (num_pixels // _PIXELS_PER_BYTE > sizes)
        for what, bad in (
            ("lies outside the file", outside),
            ("has an unknown encoding", (modes != JPG) & (modes != RAW)),
            ("has no pixels", (heights < 1) | (widths < 1) | (sizes < 1)),
            ("has a wrong size", (modes == RAW) & (sizes != 3 * num_pixels)),
            ("declares more pixels than its bytes can hold", too_large),
            ("has a negative label", index.labels < 0),
        ):
            if bad.any():
                raise self._fail(f"sample {int(np.flatnonzero(bad)[0])} {what}")
