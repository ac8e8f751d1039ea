"""A folder that is deleted when its process no longer needs it, at the latest by the next process.

In: where it lies, and the begin of its name. Out: a context with an empty folder. `naming` names a
folder in errors of its disk.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["naming", "remove_abandoned", "temporary_folder"]

_LOCK, _FILES = "lock", "files"


@contextmanager
def temporary_folder(place: Path, prefix: str) -> Iterator[Path]:
    """Give an empty folder, which is deleted after the block.

    Folders of this prefix that killed processes left are deleted first.

    Args:
        place: The folder in which it is made. Several computers may share it.
        prefix: The begin of its name, without wildcards.

    Yields:
        The folder.

    Raises:
        OSError: The folder cannot be made.
    """
    remove_abandoned(place, prefix)
    # The name is known before the folder is made: Ctrl-C between the two must not leave it.
    whole = place / f"{prefix}{secrets.token_hex(8)}"
    files = whole / _FILES
    try:
        os.mkdir(whole, 0o700)
        # The lock shows that this process is alive. The file gets its name when it is locked: no
        # other process sees a lock that is still free.
        lock = os.open(whole / "new", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.rename(whole / "new", whole / _LOCK)
            files.mkdir()
            yield files
        finally:
            with suppress(OSError):  # nothing was written to it
                os.close(lock)
    finally:
        # After an error, other threads may still write a file. The lock then stays beside it, free,
        # so the next process deletes both.
        shutil.rmtree(files, ignore_errors=True)
        if not files.exists():
            shutil.rmtree(whole, ignore_errors=True)


def remove_abandoned(place: Path, prefix: str) -> None:
    """Delete the temporary folders that killed processes left.

    Args:
        place: The folder in which they are.
        prefix: The begin of their names, without wildcards.
    """
    for folder in place.glob(f"{prefix}*"):
        if _is_abandoned(folder):
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def naming(folder: object) -> Iterator[None]:
    """Name a folder in the errors of the block that name no file: those of writes to open files.

    Args:
        folder: What is named.

    Raises:
        OSError: What the block raised.
    """
    try:
        yield
    except OSError as error:
        # An error without a number has a text, which a name of a file would replace.
        if error.filename is None and error.errno is not None:
            error.filename = str(folder)
        raise


def _is_abandoned(folder: Path) -> bool:
    """Whether the folder belongs to this user and its lock is free.

    A folder without a lock file is being made.
    """
    try:
        state = os.lstat(folder)  # another prep may remove it at the same time
        if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.getuid():
            return False
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
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
