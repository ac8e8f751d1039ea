"""A validated, read-only, memory-mapped view of a .beton file (FFCV's format, version 2).

In: a path. Out: `Beton`. Its arrays give for each sample the position of its bytes, their encoding
and the size of the image. All of this is checked first: a truncated or foreign file raises
DatasetError. ffcv is not needed.
"""

from __future__ import annotations

import mmap
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from threading import Lock

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
from slipform.pipelines.bus_error import watch
from slipform.pipelines.checksums import read_crc32
from slipform.pipelines.errors import DatasetError, SampleError
from slipform.pipelines.files import open_regular

__all__ = ["Beton", "FilePart"]

# A JPEG encodes at most 64 pixels in a bit, which is 512 in a byte. A progressive JPEG of a single
# gray value reaches this. The limit here is twice as high.
_PIXELS_PER_BYTE = 1024
FilePart = tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8], npt.NDArray[np.int64]]


class Beton:
    """One beton, open for reading. It is FFCV's file for one split.

    Args:
        path: The file.

    Attributes:
        path: The file.
        data: uint8 [bytes], the whole file, mapped.
        labels: int64 [N], class numbers.
        heights, widths: int32 [N], sizes of the stored images in pixels.
        modes: uint8 [N], how each image is stored: JPG (0) or RAW (1).
        offsets, sizes: int64 [N], where the bytes of each image are in the file, in bytes.
        addresses: int64 [N], where the bytes of each image are in memory.
        identity: Device, inode, size and time of the last change of the file that was opened.

    Raises:
        DatasetError: The file does not exist, is truncated, or is not a beton.

    Example:
        >>> import slipform as sf
        >>> beton = sf.Beton("data/shapes/test.beton")
        >>> len(beton), int(beton.labels[0]), beton.bytes_of(0)[:2].tobytes()
        (60, 0, b'\\xff\\xd8')
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        if not self.path.exists():
            raise DatasetError(f"{self.path} does not exist. Run prep first.")
        with open_regular(self.path, DatasetError) as file:
            state = os.fstat(file.fileno())
            if not state.st_size:  # an empty file cannot be mapped
                raise DatasetError(f"{self.path} is not a beton: it is empty. Run prep again.")
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            watch(self._map, self.path)
            self.identity = _identity(state)
        self.data: npt.NDArray[np.uint8] = np.frombuffer(self._map, dtype=np.uint8)
        metadata = self._metadata()
        image, label = metadata["image"], metadata["label"]
        self.labels = label.astype(np.int64)
        self.modes = image["mode"].copy()
        self.heights = image["height"].astype(np.int32)
        self.widths = image["width"].astype(np.int32)
        self.offsets = image["data_ptr"].astype(np.int64)
        self.addresses = self.data.ctypes.data + self.offsets
        self.sizes = self._sizes()
        self._check_samples()
        self._crc32: npt.NDArray[np.uint32] | None = None
        self._reading = Lock()

    def __len__(self) -> int:
        return len(self.labels)

    def bytes_of(self, index: int) -> npt.NDArray[np.uint8]:
        """The stored bytes of a sample.

        Args:
            index: Position of the sample.

        Returns:
            uint8 [size], a view: a JPEG stream, or raw RGB of H * W * 3 bytes.
        """
        start = self.offsets[index]
        return self.data[start : start + self.sizes[index]]

    def place(self, index: int) -> tuple[Path, int]:
        """The file that has a sample, and the position of the sample in it, for messages.

        Args:
            index: Position of the sample.
        """
        return self.path, index

    def files_of(self, indices: npt.NDArray[np.int64]) -> Iterator[FilePart]:
        """The files that have the bytes of samples.

        Args:
            indices: int64 [N], the samples.

        Yields:
            Positions in `indices`, a mapped file (uint8 [bytes]), and where in it the bytes of the
            samples at these positions begin.
        """
        yield np.arange(len(indices)), self.data, self.offsets[indices]

    def release_pages(self) -> None:
        """Remove the mapped pages from this process. They stay in the page cache.

        The resident memory of a process otherwise grows with every page that it reads. Views stay
        valid.
        """
        self._map.madvise(mmap.MADV_DONTNEED)

    def raw(self, index: int) -> npt.NDArray[np.uint8]:
        """The pixels of a RAW sample.

        Args:
            index: Position of the sample.

        Returns:
            uint8 [H, W, 3] RGB, a view.
        """
        assert self.modes[index] == RAW
        return self.bytes_of(index).reshape(self.heights[index], self.widths[index], 3)

    def check_length(self) -> None:
        """Check that the file was not truncated while it is mapped. This takes a microsecond.

        A read beyond the end of the file ends the process with a message (`bus_error`). This check
        raises an exception instead, unless the file is truncated between the check and the read.

        Raises:
            DatasetError: The file is shorter than when it was opened.
        """
        if self._map.size() < len(self.data):
            raise DatasetError(
                f"{self.path} was truncated while it was open: {self._map.size()} of"
                f" {len(self.data)} bytes are left. Run prep again."
            )

    def read_crc32(self) -> npt.NDArray[np.uint32]:
        """The CRC-32 of each sample. The first call reads the table, in any thread.

        Returns:
            uint32 [N], or uint32 [0] if there is no table.

        Raises:
            DatasetError: The table is damaged.
        """
        with self._reading:
            if self._crc32 is None:
                self._crc32 = read_crc32(self.path, len(self))
            return self._crc32

    def check_crc32(self, index: int) -> None:
        """Compare the bytes of a sample with its CRC-32, if there is a table.

        Args:
            index: Position of the sample.

        Raises:
            SampleError: They differ.
            DatasetError: They differ, and the file was replaced while it was open.
        """
        table = self.read_crc32() if self._crc32 is None else self._crc32
        if table.size and zlib.crc32(self.bytes_of(index).data) != table[index]:
            self._check_identity()
            raise SampleError(
                f"sample {index} of {self.path} is damaged: its CRC-32 is not the one prep wrote. "
                f"Run: prep verify {self.path.parent}",
                index,
                int(self.labels[index]),
            )

    def _check_identity(self) -> None:
        try:
            now = _identity(os.stat(self.path))
        except FileNotFoundError:
            now = ()
        if now != self.identity:
            raise DatasetError(
                f"{self.path} was replaced or changed while it was open, so its checksums do not"
                " belong to what was read. Start again."
            )

    def resident_bytes(self) -> int:
        """The bytes of all images when they are decoded to uint8 RGB."""
        return int((self.heights.astype(np.int64) * self.widths * 3).sum())

    def _fail(self, why: str) -> DatasetError:
        return DatasetError(
            f"{self.path} is not a complete beton: {why}. Run prep again, or: prep verify"
            f" {self.path.parent}"
        )

    def _metadata(self) -> npt.NDArray[np.void]:
        """Check header and descriptors. Returns the metadata, with fields `image` and `label`."""
        if len(self.data) < HEADER.itemsize:
            raise self._fail(f"{len(self.data)} bytes are less than a header")
        header = self.data[: HEADER.itemsize].view(HEADER)[0]
        if header["version"] != VERSION:
            raise self._fail(f"its version is {header['version']}, expected {VERSION}")
        num_samples, num_fields = int(header["num_samples"]), int(header["num_fields"])
        self._table_start = int(header["alloc_table_ptr"])
        start = HEADER.itemsize + num_fields * DESCRIPTOR.itemsize
        if num_fields != 2 or start > len(self.data):
            raise self._fail(f"it has {num_fields} fields, expected an image and a label")
        if (
            not start <= self._table_start <= len(self.data)
            or (len(self.data) - self._table_start) % TABLE_ROW.itemsize
        ):
            raise self._fail(
                f"its table begins at byte {self._table_start} of {len(self.data)}; the file"
                " was truncated or never finished"
            )
        descriptors = self.data[HEADER.itemsize : start].view(DESCRIPTOR)
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
        return self.data[start:end].view(layout)

    def _sizes(self) -> npt.NDArray[np.int64]:
        """The size of each sample, from the table. ffcv's workers write its rows in any order."""
        table = self.data[self._table_start :].view(TABLE_ROW)
        if len(table) != len(self):
            raise self._fail(f"its table names {len(table)} of {len(self)} samples")
        sizes = np.zeros(len(self), np.int64)
        if len(table):
            ids = table["sample_id"]
            if ids.max() >= len(self) or len(np.unique(ids)) != len(self):
                raise self._fail("its table names a sample twice or one that does not exist")
            sizes[ids] = table["size"].astype(np.int64)
            if not np.array_equal(self.offsets[ids], table["ptr"].astype(np.int64)):
                raise self._fail("its table and its metadata disagree on where samples lie")
        return sizes

    def _check_samples(self) -> None:
        """Check offsets, sizes, modes and labels of all samples."""
        ends_late = self.offsets > self._table_start - self.sizes
        outside = (self.offsets < self._data_start) | (self.sizes < 0) | ends_late
        num_pixels = self.heights.astype(np.int64) * self.widths
        too_large = (self.modes == JPG) & (num_pixels // _PIXELS_PER_BYTE > self.sizes)
        for what, bad in (
            ("lies outside the file", outside),
            ("has an unknown encoding", (self.modes != JPG) & (self.modes != RAW)),
            ("has no pixels", (self.heights < 1) | (self.widths < 1) | (self.sizes < 1)),
            ("has a wrong size", (self.modes == RAW) & (self.sizes != 3 * num_pixels)),
            ("declares more pixels than its bytes can hold", too_large),
            ("has a negative label", self.labels < 0),
        ):
            if bad.any():
                raise self._fail(f"sample {int(np.flatnonzero(bad)[0])} {what}")


def _identity(state: os.stat_result) -> tuple[int, ...]:
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns
