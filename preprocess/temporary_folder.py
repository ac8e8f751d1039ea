"""A folder below TMPDIR that is deleted, at the latest by the next `prep`.

In: nothing. Out: a context with an empty folder.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["temporary_folder"]

_PREFIX = "slipform-prep-"


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Give an empty folder, which is deleted after the block.

    Folders that a killed process left are deleted first. A lock shows that a process is alive.

    Yields:
        The folder.

    Raises:
        OSError: The folder cannot be made.
    """
    for orphan in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        if _is_orphan(orphan):
            shutil.rmtree(orphan, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as name:
        lock = os.open(f"{name}/lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            (Path(name) / "files").mkdir()
            yield Path(name) / "files"
        finally:
            with suppress(OSError):  # nothing was written to it
                os.close(lock)


def _is_orphan(folder: Path) -> bool:
    """Whether the folder belongs to this user and its lock is free.

    A folder without a lock file is being made.
    """
    try:
        state = os.lstat(folder)  # another prep may remove it at the same time
        if stat.S_ISLNK(state.st_mode) or state.st_uid != os.getuid():
            return False
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        with suppress(OSError):
            os.close(lock)
    return True
