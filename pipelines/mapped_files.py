"""Files, mapped read-only one after another into one range of addresses: `MappedFiles`.

In: paths. Out: one array of all their bytes, and where each file begins in it. A split of a
thousand shards is thus read as one file is. The first files stay open, since the length of an open
file is known soon. The others do not: a process may open about a thousand files, and map about
65,000.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import re
import weakref
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt

from slipform.pipelines.bus_error import Truncated, watch
from slipform.pipelines.errors import DatasetError
from slipform.pipelines.files import open_regular

__all__ = ["MappedFiles", "joined_name"]

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = (
    ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long,
)  # fmt: skip
_MAP_FIXED = 0x10  # linux/mman.h
_MAP_FAILED = ctypes.c_void_p(-1).value
_MOST_OPEN = 16  # files
# The pages of so many bytes may stay mapped. Removing and mapping them for each batch takes more
# than half of the processor time of the `host` executor for CIFAR-10.
_MOST_MAPPED = 256 << 20
_AROUND = 64 << 10  # bytes that Linux maps when a page is read for the first time


def joined_name(paths: Sequence[Path]) -> Path:
    """One path that stands for all: FOLDER/train-*-of-00128.beton+val.beton.

    Args:
        paths: Files in one folder, at least one.
    """
    names = dict.fromkeys(re.sub(r"-\d+-of-", "-*-of-", path.name) for path in paths)
    return paths[0] if len(paths) == 1 else paths[0].with_name("+".join(names))


class MappedFiles:
    """Files, mapped read-only. Each begins at a page of its own.

    Args:
        paths: The files, at least one.
        filling: Their bytes are still being written. The time of the last change is then no part of
            their identity.

    Attributes:
        paths: The files.
        data: uint8 [bytes], all of them. Behind each file but the last, zeros fill its page.
        starts: int64 [F], where each file begins in `data`.
        lengths: int64 [F], the length of each file in bytes.
        identities: For each file that was mapped: device, inode, size, time of the last change (0
            if `filling`).

    Raises:
        DatasetError: A file does not exist, is empty, or was replaced meanwhile.
        OSError: The system cannot map that many files.
    """

    def __init__(self, paths: Sequence[Path], *, filling: bool = False) -> None:
        self.paths, self._filling = list(paths), filling
        self._names = [str(path) for path in paths]  # `os.stat` of a Path takes twice as long
        self.identities = [self._same(_identity(path)) for path in self.paths]
        self._sizes = [one[2] for one in self.identities]
        self.lengths = np.array(self._sizes, np.int64)
        pages = -(-self.lengths // mmap.PAGESIZE) * mmap.PAGESIZE
        self.starts = np.cumsum(pages) - pages
        # Addresses without memory. Each file replaces its part. The range is freed as a whole.
        self._map = mmap.mmap(
            -1,
            int(self.starts[-1] + self.lengths[-1]),
            flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS,
            prot=mmap.PROT_READ,
        )
        self.data: npt.NDArray[np.uint8] = np.frombuffer(self._map, np.uint8)
        self._mapped = 0  # bytes that may be mapped, without those that are shared by samples
        self._handles: list[int] = []  # of the files that stay open
        weakref.finalize(self, _close, self._handles)
        for number, path in enumerate(self.paths):
            self._map_file(number, path)
        watch(self)

    def _map_file(self, number: int, path: Path) -> None:
        start, length = int(self.starts[number]), int(self.lengths[number])
        with open_regular(path, DatasetError) as file:
            if self._same(_of(os.fstat(file.fileno()))) != self.identities[number]:
                raise DatasetError(f"{path} was replaced while it was opened. Start again.")
            address = self.data.ctypes.data + start
            flags = mmap.MAP_SHARED | _MAP_FIXED
            mapped = _LIBC.mmap(address, length, mmap.PROT_READ, flags, file.fileno(), 0)
            if number < _MOST_OPEN:
                self._handles.append(os.dup(file.fileno()))
        if mapped == _MAP_FAILED:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(path))

    def of(self, positions: npt.NDArray[np.int64] | np.int64) -> npt.NDArray[np.int64] | np.int64:
        """The files that have bytes.

        Args:
            positions: int64 [N] or one number, positions in `data`.

        Returns:
            Their numbers, from 0, in the same form.
        """
        return np.searchsorted(self.starts, positions, "right") - 1

    def release_pages(self) -> None:
        """Remove the mapped pages from this process. They stay in the page cache."""
        self._map.madvise(mmap.MADV_DONTNEED)
        self._mapped = 0

    def limit_pages(self, sizes: npt.NDArray[np.int64], indices: npt.NDArray[np.int64]) -> None:
        """Remove the mapped pages if there may be more than 256 MiB of them after the next reads.

        Args:
            sizes: int64 [N], the bytes at places in the files.
            indices: int64 [n], which of these places are read next.
        """
        if len(self.data) <= _MOST_MAPPED:
            return
        coming = int(sizes[indices].sum()) + len(indices) * _AROUND
        if self._mapped + coming > _MOST_MAPPED:
            self.release_pages()
        self._mapped += coming

    def truncated(self, numbers: Iterable[int] | None = None) -> Truncated | None:
        """The first file that was truncated after it was mapped.

        A file that was replaced keeps its bytes, as long as it is mapped. If it is truncated after
        that, this is known for open files only.

        Args:
            numbers: The files to look at. None: all.
        """
        for number in range(len(self.paths)) if numbers is None else numbers:
            # For open files: three times as fast as `os.fstat`, which fills a structure.
            left = (
                os.lseek(self._handles[number], 0, os.SEEK_END)
                if number < len(self._handles)
                else self._left(number)
            )
            if left < self._sizes[number]:
                return Truncated(self.paths[number], left, self._sizes[number])
        return None

    def _left(self, number: int) -> int:
        """The present length of a mapped file; as when it was mapped if another one has its path
        now."""
        now, then = _current(self._names[number]), self.identities[number]
        return now[2] if now[:2] == then[:2] else then[2]

    def replaced(self, number: int) -> bool:
        """Whether a file was replaced or changed after it was mapped.

        Args:
            number: The number of the file.
        """
        return self._same(_current(self._names[number])) != self.identities[number]

    def _same(self, identity: tuple[int, ...]) -> tuple[int, ...]:
        """What of an identity does not change while the file is filled."""
        return (*identity[:3], 0) if self._filling and identity else identity


def _close(handles: list[int]) -> None:
    while handles:
        with suppress(OSError):  # a finalizer has no caller for errors, and others are left
            os.close(handles.pop())


def _current(path: str) -> tuple[int, ...]:
    """The identity of the file that has this path now; () if there is none."""
    try:
        return _of(os.stat(path))
    except OSError:
        return ()


def _identity(path: Path) -> tuple[int, ...]:
    if not path.exists():
        raise DatasetError(f"{path} does not exist. Run prep first.")
    with open_regular(path, DatasetError) as file:
        state = os.fstat(file.fileno())
    if not state.st_size:  # an empty file cannot be mapped
        raise DatasetError(f"{path} is not a beton: it is empty. Run prep again.")
    return _of(state)


def _of(state: os.stat_result) -> tuple[int, ...]:
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns
