"""The stored samples of a split, validated, read-only and mapped: `Beton`.

In: a .beton file (FFCV's format, version 2), or several that are shards of a split. Out: `Beton`.
Its arrays give for each sample the position of its bytes, their encoding and the size of the image.
The samples of several files have one numbering, and are read as those of one file.
"""

from __future__ import annotations

import copy
import hashlib
import zlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from slipform.pipelines.beton_format import RAW
from slipform.pipelines.beton_index import BetonIndex, read_index
from slipform.pipelines.checksums import read_crc32
from slipform.pipelines.errors import DatasetError, SampleError
from slipform.pipelines.mapped_files import MappedFiles, joined_name
from slipform.pipelines.shapes import Shapes

__all__ = ["Beton", "BetonFile"]

_Int64 = npt.NDArray[np.int64]


class BetonFile(NamedTuple):
    """One of the files of a Beton.

    Attributes:
        path: The file.
        labels: int64 [n], the labels of its samples.
    """

    path: Path
    labels: _Int64


class Beton:
    """Stored samples, open for reading: one file, or several as if they were one.

    Args:
        path: The file.
        more: Files whose samples follow those of `path`, such as the other shards of a split.

    Attributes:
        path: The file. For several, a name for messages: FOLDER/train-*-of-00128.beton.
        data: uint8 [bytes], the whole files, mapped.
        labels: int64 [N], class numbers.
        heights, widths: int32 [N], sizes of the stored images in pixels.
        shapes: Looks up the heights and widths of samples.
        modes: uint8 [N], how each image is stored: JPG (0) or RAW (1).
        offsets, sizes: int64 [N], where the bytes of each image are in `data`, in bytes.
        addresses: int64 [N], where the bytes of each image are in memory.
        identity: Device, inode, size and time of the last change of each file that was opened.
        stays: Whether all bytes are on this machine, or (`mirror.beton`) those of held samples.

    Raises:
        DatasetError: A file does not exist, is truncated, or is not a beton.

    Example:
        >>> import slipform as sf
        >>> beton = sf.Beton("data/shapes/test.beton")
        >>> len(beton), int(beton.labels[0]), beton.bytes_of(0)[:2].tobytes()
        (60, 0, b'\\xff\\xd8')
    """

    stays = True

    def __init__(self, path: Path | str, *more: Path | str) -> None:
        paths = [Path(path), *(Path(one) for one in more)]
        self.path = joined_name(paths)
        self._files = files = MappedFiles(paths, filling=not self.stays)
        self.data = files.data
        self.identity: tuple[int, ...] = sum(files.identities, ())
        found = [
            read_index(one, files.data[start : start + length])
            for one, start, length in zip(paths, files.starts, files.lengths, strict=True)
        ]
        index = BetonIndex(*map(np.concatenate, zip(*found, strict=True)))
        self.labels, self.modes, self.heights, self.widths, offsets, self.sizes = index
        self.shapes = Shapes(self.heights, self.widths)
        counts = [len(one.labels) for one in found]
        # Where the samples of each file begin in this numbering, and where the last ones end.
        self._bounds = np.cumsum([0, *counts])
        self.offsets: _Int64 = offsets + np.repeat(files.starts, counts)
        self.addresses: _Int64 = files.data.ctypes.data + self.offsets
        self._whole: Beton | None = None  # of which this is a subset
        self._chosen = np.arange(0)
        self._crc32: npt.NDArray[np.uint32] | None = None
        self._tables: list[npt.NDArray[np.uint32]] = []  # those of the files
        self._reading = Lock()

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, samples: _Int64) -> Beton:
        """Chosen samples, numbered from 0. No bytes are copied.

        Args:
            samples: int64 [N], their positions.
        """
        found = copy.copy(self)
        for name in ("labels", "modes", "heights", "widths", "offsets", "sizes", "addresses"):
            setattr(found, name, getattr(self, name)[samples])
        found.shapes = Shapes(found.heights, found.widths)
        chosen = hashlib.sha256(np.ascontiguousarray(samples, np.int64).data).digest()
        found.identity = (*self.identity, int.from_bytes(chosen[:8], "little"))
        of_subset = self._whole is not None
        found._whole = self._whole if of_subset else self
        found._chosen = self._chosen[samples] if of_subset else samples
        found._crc32, found._reading = None, Lock()
        return found

    def place(self, index: int) -> tuple[Path, int]:
        """The file that has a sample, and the position of the sample in it, for messages.

        Args:
            index: Position of the sample.
        """
        file = int(self._files.of(self.offsets[index]))
        position = index if self._whole is None else self._chosen[index]
        return self._files.paths[file], int(position - self._bounds[file])

    def bytes_of(self, index: int) -> npt.NDArray[np.uint8]:
        """The stored bytes of a sample.

        Args:
            index: Position of the sample.

        Returns:
            uint8 [size], a view: a JPEG stream, or raw RGB of H * W * 3 bytes.
        """
        start = self.offsets[index]
        return self.data[start : start + self.sizes[index]]

    def bytes_after(self, index: int) -> npt.NDArray[np.uint8] | None:
        """What follows a sample: the entry points of a large JPEG (`jpeg_entries`), or other bytes.

        Args:
            index: Position of the sample.

        Returns:
            uint8, a view. None: those bytes may not be on this machine.
        """
        return self.data[self.offsets[index] + self.sizes[index] :] if self.stays else None

    def release_pages(self) -> None:
        """Remove the mapped pages, which stay in the page cache. Views stay valid."""
        self._files.release_pages()

    def limit_pages(self, indices: _Int64) -> None:
        """Remove the mapped pages if they may take more than 256 MiB after samples are read.

        One thread may call it. Views stay valid.

        Args:
            indices: int64 [N], the samples that are read next.
        """
        self._files.limit_pages(self.sizes, indices)

    def raw(self, index: int) -> npt.NDArray[np.uint8]:
        """The pixels of a RAW sample.

        Args:
            index: Position of the sample.

        Returns:
            uint8 [H, W, 3] RGB, a view.
        """
        assert self.modes[index] == RAW
        return self.bytes_of(index).reshape(self.heights[index], self.widths[index], 3)

    def file_numbers(self, indices: _Int64) -> list[int]:
        """The numbers of the files that have samples, each once.

        Args:
            indices: int64 [N], the samples.
        """
        one = len(self._files.paths) == 1
        return [0] if one else np.unique(self._files.of(self.offsets[indices])).tolist()

    def check_length(self, files: Sequence[int] | None = None) -> None:
        """Check that no file was truncated while it is mapped. This takes a microsecond for a file.

        A read beyond the end of a file ends the process with a message (`bus_error`). This check
        raises an exception instead, unless the file is truncated between the check and the read.

        Args:
            files: Numbers of files: only these are checked. None: all.

        Raises:
            DatasetError: A file is shorter than when it was opened.
        """
        if cut := self._files.truncated(files):
            raise DatasetError(
                f"{cut.path} was truncated while it was open: {cut.left} of {cut.length} bytes are"
                " left. Run prep again."
            )

    def read_crc32(self) -> npt.NDArray[np.uint32]:
        """The CRC-32 of each sample. The first call reads the tables, in any thread.

        Returns:
            uint32 [N], or uint32 [0] if a file has no table.

        Raises:
            DatasetError: A table is damaged.
        """
        with self._reading:
            if self._crc32 is None:
                self._crc32 = self._joined_crc32()
            return self._crc32

    def _joined_crc32(self) -> npt.NDArray[np.uint32]:
        if self._whole is not None:
            table = self._whole.read_crc32()
            return table[self._chosen] if table.size else table
        counts = np.diff(self._bounds).tolist()
        self._tables = list(map(read_crc32, self._files.paths, counts))
        if [len(table) for table in self._tables] != counts:
            return np.zeros(0, np.uint32)
        joined = np.concatenate(self._tables)
        self._tables = np.split(joined, self._bounds[1:-1])
        return joined

    def files(self) -> Iterator[BetonFile]:
        """The files in their order, each with all of its samples."""
        whole = self if self._whole is None else self._whole
        yield from map(BetonFile, self._files.paths, np.split(whole.labels, self._bounds[1:-1]))

    def tables(self) -> list[npt.NDArray[np.uint32]]:
        """The checksums of each file: uint32 [n], or uint32 [0] if it has no table.

        Raises:
            DatasetError: A table is damaged.
        """
        whole = self if self._whole is None else self._whole
        whole.read_crc32()
        return whole._tables

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
            path, place = self.place(index)
            if self._files.replaced(int(self._files.of(self.offsets[index]))):
                raise DatasetError(
                    f"{path} was replaced or changed while it was open, so its checksums do not"
                    " belong to what was read. Start again."
                )
            raise SampleError(
                f"sample {place} of {path} is damaged: its CRC-32 is not the one prep wrote. "
                f"Run: prep verify {path.parent}",
                place,
                int(self.labels[index]),
            )

    def held(self, indices: npt.NDArray[np.int64]) -> AbstractContextManager[None]:
        """Have the bytes of samples on this machine during a `with` block, to read `addresses`.

        Args:
            indices: int64 [n], the samples.

        Raises:
            StorageError: The beton is in an object store that cannot be read.
        """
        return nullcontext()

    def parts(self) -> Iterator[npt.NDArray[np.int64]]:
        """All samples in their order, in parts that are held until the next part is asked for.

        Yields:
            int64 [n], consecutive samples. One part if all bytes are on this machine.

        Raises:
            StorageError: The beton is in an object store that cannot be read.
        """
        yield np.arange(len(self))

    def resident_bytes(self) -> int:
        """The bytes of all images when they are decoded to uint8 RGB."""
        return 3 * int((self.heights.astype(np.int64) * self.widths).sum())
