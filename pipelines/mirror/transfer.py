"""Copying of samples from an object store to the betons of a mirror: `Transfer`.

In: samples that lie near each other. Out: their bytes in the beton. Each is compared with its
CRC-32 before it is written.
"""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock

import numpy as np
import numpy.typing as npt

from slipform.pipelines.errors import DatasetError, StorageError
from slipform.pipelines.manifest import FILE_NAME, BetonInfo
from slipform.pipelines.mirror.cache import write_at, writing
from slipform.pipelines.mirror.folder import Mirror

__all__ = ["Transfer"]

_TRIES, _PAUSE = 4, 0.1  # for bytes with a wrong checksum; seconds before the second try
_FILE_STEP = 40  # bits: positions in different betons differ by 1 TiB
_Int64 = npt.NDArray[np.int64]


class Transfer:
    """Copies samples. All threads may use it together.

    Args:
        mirror: The mirror.
        files: Its betons that are open.
        identities: For each beton the device and the inode that are mapped.
        offsets: int64 [N], where each sample lies in its beton.
        sizes: int64 [N], in bytes.
        crc32: For each beton the CRC-32 of its samples; uint32 [0]: it has none.

    Attributes:
        positions: int64 [N], for `pieces_of`: `offsets`, and 1 TiB from a beton to the next.
        unchecked: bool [N], samples without a checksum.
        num_bytes: Bytes that were fetched.
    """

    def __init__(
        self,
        mirror: Mirror,
        files: Sequence[BetonInfo],
        identities: Sequence[tuple[int, int]],
        offsets: _Int64,
        sizes: _Int64,
        crc32: Sequence[npt.NDArray[np.uint32]],
    ) -> None:
        self._mirror, self._files, self._identities = mirror, files, identities
        counts = [one.num_samples for one in files]
        self.positions = offsets + (np.repeat(np.arange(len(files)), counts) << _FILE_STEP)
        self._sizes = sizes
        self.unchecked = np.repeat([len(one) == 0 for one in crc32], counts)
        self._crc32 = np.zeros(len(sizes), np.uint32)
        self._crc32[~self.unchecked] = np.concatenate([*crc32, np.zeros(0, np.uint32)])
        self.num_bytes, self._counting = 0, Lock()

    def is_right(self, sample: int, content: memoryview) -> bool:
        """Whether bytes have the checksum of a sample.

        Args:
            sample: The sample.
            content: The bytes.
        """
        return bool(self.unchecked[sample] or zlib.crc32(content) == self._crc32[sample])

    def copy(self, samples: _Int64) -> list[int]:
        """Fetch samples by one request, and write them to their beton.

        A sample is written also if its object has wrong bytes. Whoever reads it compares it with
        its checksum, as in a local file.

        Args:
            samples: int64 [n], samples of one beton, near each other.

        Returns:
            Those whose bytes are right.

        Raises:
            StorageError: They cannot be fetched, or each answer has other wrong bytes, or the cache
                cannot be written.
            DatasetError: Another dataset is in the object store now.
        """
        starts, sizes = self.positions[samples], self._sizes[samples]
        file, low = divmod(int(starts.min()), 1 << _FILE_STEP)
        starts = starts - starts.min()
        content = self._read(file, low, low + int((starts + sizes).max()))
        found = []
        with self._open(file) as handle:
            lists = (samples.tolist(), starts.tolist(), sizes.tolist())
            for sample, start, size in zip(*lists, strict=True):
                part = content[start : start + size]
                right = self.is_right(sample, part)
                if not right:
                    part, right = self._again(sample, part)
                write_at(handle, part, low + start)
                if right:
                    found.append(sample)
        return found

    def _read(self, file: int, start: int, end: int) -> memoryview:
        content = self._mirror.store.read_range(self._files[file].file, start, end)
        with self._counting:
            self.num_bytes += end - start
        return content

    def _again(self, sample: int, content: memoryview) -> tuple[memoryview, bool]:
        """Fetch a sample whose bytes were wrong again. Returns whether they are right."""
        file, start = divmod(int(self.positions[sample]), 1 << _FILE_STEP)
        same = True
        for tries in range(1, _TRIES):
            time.sleep(_PAUSE * 2 ** (tries - 1))
            again = self._read(file, start, start + int(self._sizes[sample]))
            if self.is_right(sample, again):
                return again, True
            same = same and again == content
        if same:  # so the object is damaged, or it is another one
            self._check_unchanged()
            return content, False
        raise StorageError(
            f"GET {self._mirror.store.url}/{self._files[file].file}, bytes {start} to"
            f" {start + len(content)}: {_TRIES} answers had wrong bytes, not always the same."
            " Something between this machine and the server damages answers."
        )

    def _check_unchanged(self) -> None:
        mirror = self._mirror
        if mirror.store.read(FILE_NAME) != (mirror.folder / FILE_NAME).read_bytes():
            raise DatasetError(
                f"the dataset in {mirror.store.url} was replaced while it was read: its {FILE_NAME}"
                " differs. Start again when its upload has ended."
            )

    @contextmanager
    def _open(self, file: int) -> Iterator[int]:
        """A beton, open for writing. It must be the file that is mapped."""
        path = self._mirror.folder / self._files[file].file
        with writing(path):
            handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                state = os.fstat(handle)
                if (state.st_dev, state.st_ino) != self._identities[file]:
                    raise StorageError(f"{path} was replaced while it was in use. Start again.")
                yield handle
            finally:
                os.close(handle)
