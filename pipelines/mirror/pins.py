"""Which samples of a mirror are in use: `Pins`, a file of each reader that all processes see.

In: numbers of samples. Out: nothing; their bytes stay in the mirror while they are pinned. A reader
holds the lock of its file as long as it exists, so the pins of a killed process are known to be
void.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import weakref
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Lock

import numpy as np
import numpy.typing as npt

from slipform.pipelines.mirror.cache import READERS, live_readers, writing
from slipform.pipelines.mirror.folder import Mirror

__all__ = ["Pins", "pinned"]

_Int64 = npt.NDArray[np.int64]


class Pins:
    """The samples that one reader uses. A sample may be pinned several times.

    Args:
        mirror: The mirror.

    Attributes:
        counts: int32 [M], how often each sample of the mirror is pinned by this reader.

    Raises:
        StorageError: The file system of the cache has no locks, or the mirror was deleted.
    """

    def __init__(self, mirror: Mirror) -> None:
        path = mirror.folder / READERS / f"{os.getpid()}-{secrets.token_hex(4)}.pins"
        # Locked: until the file has its own lock, others would take it for a void one.
        with writing(path.parent), mirror.locked(), ExitStack() as undo:
            size = len(mirror.present)  # this maps it, which needs the lock, too
            undo.callback(path.unlink, missing_ok=True)
            self._shared = mirror.shared_bytes(path)
            handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            undo.callback(os.close, handle)
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.counts = np.zeros(size, np.int32)
            self._lock = Lock()
            weakref.finalize(self, _remove, path, handle, os.getpid())
            undo.pop_all()

    def add(self, numbers: _Int64) -> None:
        """Pin samples. The caller holds the lock of the mirror, or has pinned them already.

        Args:
            numbers: int64 [n], each at most once.
        """
        with self._lock:
            self.counts[numbers] += 1
            self._shared[numbers] = 1

    def remove(self, numbers: _Int64) -> None:
        """Take back one pin of samples.

        Args:
            numbers: int64 [n], each at most once.
        """
        with self._lock:
            left = self.counts[numbers] - 1
            self.counts[numbers] = left
            self._shared[numbers[left == 0]] = 0


def pinned(mirror: Mirror) -> npt.NDArray[np.bool_]:
    """The samples that any reader uses. The caller holds the lock of the mirror.

    Args:
        mirror: The mirror.

    Returns:
        bool [M].
    """
    found = np.zeros(len(mirror.present), bool)
    for path in live_readers(mirror.folder):
        with suppress(FileNotFoundError):  # a reader that ends deletes its file at any time
            if path.stat().st_size == len(found):
                found |= np.memmap(path, np.uint8, "r", shape=(len(found),)) == 1
    return found


def _remove(path: Path, handle: int, process: int) -> None:
    # A finalizer has no caller for errors. The file is void without its lock, and others delete it.
    with suppress(OSError):
        if process == os.getpid():  # a fork has a copy of the object
            path.unlink(missing_ok=True)
    with suppress(OSError):
        os.close(handle)
