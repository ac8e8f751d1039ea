"""Chunks -> one .beton file in FFCV's format, in order and in one pass.

In: `Chunk`s. Out: the file, its `.crc32.npy`, and a `SplitInfo`. The bytes depend on the samples
alone, and not on how they were divided into chunks. pipelines/beton_format.py describes the layout.

ffcv's own writer is not used. It stores samples in the order in which its processes finish, encodes
all images again, and waits forever if a process dies.

Pages: ffcv's Loader (os_cache=False) reads whole pages and takes each sample from one page. A
sample must therefore not cross a multiple of the page size. If a sample is larger than a page, the
page size is doubled: a sample inside a small page is also inside a large one.

The entry points of a large JPEG (`jpeg_entries`) follow its bytes. They belong to no sample in the
table, so only Slipform reads them.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

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
from slipform.pipelines.checksums import crc32_path, index_sha256
from slipform.pipelines.manifest import SplitInfo
from slipform.preprocess.chunk import Chunk

__all__ = ["PAGE_SIZE", "BetonWriter"]

PAGE_SIZE = 1 << 23  # ffcv's default, 8 MiB
# The data begins at a multiple of this. ffcv needs no more, and a whole page would add 8 MiB to
# each file.
_ALIGNMENT = 4096
_METADATA = metadata_type((IMAGE_FIELD, INT_FIELD))


class BetonWriter:
    """Writes one beton. Call `append` for each chunk, then `finish`, then `seal`.

    Args:
        path: The file to write.
        capacity: Largest number of samples. There may be fewer in the end.
    """

    def __init__(self, path: Path, capacity: int) -> None:
        self._path = path
        self._file = open(path, "wb", buffering=0)  # noqa: SIM115 (`close` closes it)
        self._page_size = PAGE_SIZE
        data_start = HEADER.itemsize + 2 * DESCRIPTOR.itemsize + capacity * _METADATA.itemsize
        self._position = -(-data_start // _ALIGNMENT) * _ALIGNMENT
        # 33 bytes per sample. Python objects would take ten times as much.
        self._pointers, self._sizes, self._labels = array("q"), array("q"), array("q")
        self._crc32, self._widths, self._heights = array("L"), array("H"), array("H")
        self._modes = array("B")

    def append(self, chunk: Chunk) -> None:
        """Write the samples of a chunk after the earlier ones.

        Args:
            chunk: The samples.

        Raises:
            OSError: The write failed, for example because the disk is full.
        """
        data, done, end, begin = memoryview(chunk.data), 0, 0, self._position
        for sample, entries in zip(chunk.sizes, chunk.entries, strict=True):
            size = sample + entries
            while size > self._page_size:
                self._page_size *= 2
            position = self._position
            # The sample would cross into the next page: it begins there instead.
            if position % self._page_size + size > self._page_size:
                self._write(data[done:end], begin)
                done, begin = end, -(-position // self._page_size) * self._page_size
                position = begin
            self._pointers.append(position)
            self._position = position + size
            end += size
        self._write(data[done:end], begin)
        self._labels.extend(chunk.labels.tolist())
        self._sizes.extend(chunk.sizes)
        self._crc32.extend(chunk.crc32)
        self._widths.extend(chunk.widths)
        self._heights.extend(chunk.heights)
        self._modes.extend(chunk.modes)

    def finish(self, num_classes: int) -> SplitInfo:
        """Write the tables and the header.

        Args:
            num_classes: Number of classes of the dataset.

        Returns:
            What the manifest says about the split. Its `sha256` is "", see `seal`.

        Raises:
            OSError: The write failed.
        """
        num = len(self._pointers)
        header = np.zeros(1, HEADER)
        header[0] = (VERSION, 2, self._page_size, num, self._position)
        descriptors = np.zeros(2, DESCRIPTOR)
        for row, name, type_id in zip(
            descriptors, (b"image", b"label"), (IMAGE_FIELD, INT_FIELD), strict=True
        ):
            row["type_id"] = type_id
            row["name"][: len(name)] = np.frombuffer(name, np.uint8)
        metadata, table = np.zeros(num, _METADATA), np.zeros(num, TABLE_ROW)
        image = metadata["image"]
        image["mode"], image["data_ptr"] = self._modes, self._pointers
        image["width"], image["height"] = self._widths, self._heights
        metadata["label"] = self._labels
        table["sample_id"], table["ptr"] = np.arange(num), self._pointers
        table["size"] = self._sizes
        self._file.truncate(self._position)  # it is shorter only if there are no samples
        self._write(table.tobytes(), self._position)
        self._write(header.tobytes() + descriptors.tobytes() + metadata.tobytes(), 0)
        modes = Counter(self._modes.tobytes())
        return SplitInfo(
            file=self._path.name,
            num_samples=num,
            counts=np.bincount(metadata["label"], minlength=num_classes).tolist(),
            bytes=self._path.stat().st_size,
            sha256="",
            modes={"jpg": modes[JPG], "raw": modes[RAW]},
            min_height=min(self._heights, default=0),
            min_width=min(self._widths, default=0),
            max_height=max(self._heights, default=0),
            max_width=max(self._widths, default=0),
            index_sha256=index_sha256(metadata["label"], np.array(self._crc32, np.uint32)),
        )

    def seal(self) -> str:
        """Write the table of checksums beside the beton, flush both to the disk, and close.

        The beton is read again from the page cache for its SHA-256, because its header is written
        last. It is closed after an error, too.

        Returns:
            The SHA-256 of the beton in hex.

        Raises:
            OSError: The write failed.
        """
        try:
            with open(crc32_path(self._path), "wb") as file:
                np.save(file, np.array(self._crc32, np.uint32), allow_pickle=False)
                file.flush()
                os.fsync(file.fileno())
            with ThreadPoolExecutor(1) as hashing:  # at the same time as the disk writes
                digest = hashing.submit(self._digest)
                os.fsync(self._file.fileno())
                return digest.result()
        finally:
            self.close()

    def _digest(self) -> str:
        with open(self._path, "rb") as beton:
            return hashlib.file_digest(beton, "sha256").hexdigest()

    def close(self) -> None:
        """Close the file. A second call does nothing."""
        self._file.close()

    def _write(self, data: bytes | memoryview, position: int) -> None:
        self._file.seek(position)
        while len(data):
            data = data[self._file.write(data) :]  # `write` may write a part only
