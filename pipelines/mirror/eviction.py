"""Freeing the bytes of samples in a mirror, those first that are needed last: `Eviction`.

In: when each sample is needed next. Out: holes in the betons. With the order of the epochs known,
the sample whose next use is farthest away is the best one to drop (Belady, IBM Systems Journal
1966).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from slipform.pipelines.beton_index import read_index
from slipform.pipelines.mirror.cache import punch, used_bytes
from slipform.pipelines.mirror.copy_index import index_bounds
from slipform.pipelines.mirror.folder import Mirror
from slipform.pipelines.mirror.pins import pinned

__all__ = ["Eviction"]

_SHARE = 16  # at least so much of the limit is freed at once: sorting takes time
_BLOCK = 4096  # bytes of a block of the file system; a sample may begin and end inside of one
_Int64 = npt.NDArray[np.int64]
_Bool = npt.NDArray[np.bool_]


class _Layout(NamedTuple):
    """Where the samples of a beton lie: starts, ends, and their numbers in the order of bytes."""

    starts: _Int64
    ends: _Int64
    order: _Int64


class Eviction:
    """Frees bytes of samples that nobody uses.

    Args:
        mirror: The mirror.
    """

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self._layouts: dict[int, _Layout] = {}
        self._sizes = np.zeros(len(mirror.present), np.int64)

    def fits(self, limit: int) -> bool:
        """Whether there is room for the whole dataset.

        Args:
            limit: As for `make_room`.
        """
        extents = 16 * len(self._sizes) + 2 * _BLOCK * len(self._mirror.files)  # ext4 counts them
        return self._mirror.num_bytes + extents <= limit

    def make_room(self, limit: int, next_use: Callable[[], _Int64]) -> bool:
        """Free bytes, so that all pinned samples that are missing can be written.

        The caller holds the lock of the mirror.

        Args:
            limit: Bytes that the betons of the mirror may take on the disk.
            next_use: Gives int64 [M], when each sample is needed next. -1: unknown, freed at last.
                It is called if something has to be freed.

        Returns:
            Whether there is enough room. If not, all others are in use.
        """
        if self.fits(limit):
            return True
        present, in_use = self._present(), pinned(self._mirror)
        missing = np.flatnonzero(in_use & ~present)
        needed = int(self._sizes_of(missing).sum()) + 2 * _BLOCK * len(missing)
        used = used_bytes(self._mirror.folder)
        if used + needed <= limit:
            return True
        found = np.flatnonzero(present & ~in_use)
        found = found[np.argsort(-next_use()[found], kind="stable")]
        ends, done = np.cumsum(self._sizes_of(found)), 0
        while used + needed > limit and done < len(found):
            before = int(ends[done - 1]) if done else 0
            wanted = max(used + needed - limit, limit // _SHARE)
            stop = int(np.searchsorted(ends, before + wanted)) + 1
            self._free(found[done:stop], in_use)
            done, used = stop, used_bytes(self._mirror.folder)
        return used + needed <= limit

    def _present(self) -> _Bool:
        """The samples that are there. Those of a beton that was deleted are not."""
        firsts = self._mirror.firsts.tolist()
        for info, first, last in zip(self._mirror.files, firsts[:-1], firsts[1:], strict=True):
            if not (self._mirror.folder / info.file).exists():
                self._mirror.present[first:last] = 0
        return self._mirror.present == 1

    def _sizes_of(self, numbers: _Int64) -> _Int64:
        for file in np.unique(self._files_of(numbers)).tolist():
            self._layout(file)
        return self._sizes[numbers]

    def _files_of(self, numbers: _Int64) -> _Int64:
        return np.searchsorted(self._mirror.firsts, numbers, "right") - 1

    def _layout(self, file: int) -> _Layout:
        if file not in self._layouts:
            path = self._mirror.folder / self._mirror.files[file].file
            index = read_index(path, np.memmap(path, np.uint8, "r"))
            ends = index.offsets + index.sizes
            self._layouts[file] = _Layout(index.offsets, ends, np.argsort(index.offsets))
            first = int(self._mirror.firsts[file])
            self._sizes[first : first + len(ends)] = index.sizes
        return self._layouts[file]

    def _free(self, numbers: _Int64, in_use: _Bool) -> None:
        """Free samples. A hole reaches to the samples beside it that are kept: only whole blocks of
        the file system become free, and a block may have the ends of two samples."""
        self._mirror.present[numbers] = 0
        kept = (self._mirror.present == 1) | in_use
        files = self._files_of(numbers)
        for file in np.unique(files).tolist():
            layout, info = self._layout(file), self._mirror.files[file]
            first, count = int(self._mirror.firsts[file]), len(layout.starts)
            keep = kept[first : first + count][layout.order]
            low, high = index_bounds(info)
            ends = np.where(keep, layout.ends[layout.order], low)
            starts = np.where(keep, layout.starts[layout.order], high)
            before = np.maximum.accumulate(ends)
            after = np.minimum.accumulate(starts[::-1])[::-1]
            chosen = np.zeros(count, bool)
            chosen[numbers[files == file] - first] = True
            at = np.flatnonzero(chosen[layout.order])
            holes = np.unique(np.stack([before[at], after[at]], axis=1), axis=0)
            with open(self._mirror.folder / info.file, "r+b") as beton:
                for start, end in holes.tolist():
                    if start < end:
                        punch(beton.fileno(), start, end)
