"""The folder on this machine that keeps parts of remote datasets, and its size.

In: the environment (SLIPFORM_CACHE, SLIPFORM_CACHE_SIZE), the file system. Out: the folder, its
limit, the bytes that files take. The place and the size of a cache belong to a machine and not to a
run, so no recipe has them.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from slipform.pipelines.errors import ConfigError, SlipformError, StorageError, printable
from slipform.pipelines.files import locked
from slipform.pipelines.machine import cache_folder

__all__ = [
    "ENDING", "LOCK", "READERS", "SOURCE", "cache_limit", "cache_root", "can_punch", "live_readers",
    "make_way", "punch", "used_bytes", "write_at", "writing",
]  # fmt: skip

SOURCE = "source.json"  # in each mirror: where its dataset comes from; its time is the last use
LOCK, READERS = ".lock", "readers"
ENDING = ".beton"  # of the files that count
_RECENT = 600.0  # seconds: a mirror that was opened since may be about to be read
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?", re.IGNORECASE)
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long)
_KEEP_SIZE, _PUNCH_HOLE = 1, 2  # linux/falloc.h
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_RIGHT = (
    "Set SLIPFORM_CACHE to a folder on a local disk where this user may write. A cache is also"
    " written when it has all samples: it keeps which of them are in use. A copy of the dataset in"
    " a local folder needs no cache."
)
_NO_SPACE = (
    "Free space on the disk, or set SLIPFORM_CACHE to a folder on another local disk, or"
    " SLIPFORM_CACHE_SIZE to less. A copy of the dataset in a local folder needs no cache."
)


def cache_root() -> Path:
    """The folder of all mirrors: $SLIPFORM_CACHE, else `remote` in the user's cache folder."""
    chosen = os.environ.get("SLIPFORM_CACHE")
    return Path(chosen).expanduser().absolute() if chosen else cache_folder() / "remote"


def cache_limit(root: Path) -> int:
    """The number of bytes that the betons of all mirrors may take on the disk.

    Args:
        root: The folder of all mirrors. It exists.

    Returns:
        $SLIPFORM_CACHE_SIZE ("50GB", "20GiB", a number of bytes). Without it, half of what is free
        or used by the mirrors now.

    Raises:
        ConfigError: The variable is no size.
    """
    text = os.environ.get("SLIPFORM_CACHE_SIZE", "")
    if not text:
        mirrors = sum(used_bytes(path.parent) for path in root.glob(f"*/{SOURCE}"))
        return (shutil.disk_usage(root).free + mirrors) // 2
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ConfigError(f"SLIPFORM_CACHE_SIZE={printable(text)}: give a size such as 50GB")
    base = 1024 if found[3] else 1000
    return int(float(found[1]) * base ** " KMGT".index(found[2].upper() or " "))


def used_bytes(mirror: Path) -> int:
    """The bytes that the betons of a mirror take on the disk. Holes take none.

    Args:
        mirror: The folder.
    """
    total = 0
    with suppress(FileNotFoundError), os.scandir(mirror) as entries:
        for entry in entries:
            if entry.name.endswith(ENDING):
                with suppress(FileNotFoundError):
                    total += 512 * entry.stat().st_blocks
    return total


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Tell an error of the file system as one of the cache.

    Args:
        path: What is written, for errors that name no file.

    Raises:
        StorageError: The disk is full or fails, or the folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"the cache {error.filename or path} cannot be written: {error.strerror}."
            f" {_NO_SPACE if error.errno in _FULL else _NO_RIGHT}"
        ) from error


def write_at(handle: int, content: bytes | memoryview, position: int) -> None:
    """Write all bytes. One call of the system writes fewer when the disk becomes full.

    Args:
        handle: The file, open for writing.
        content: The bytes.
        position: Where the first of them goes.

    Raises:
        OSError: The disk is full or fails.
    """
    left = memoryview(content)
    while len(left):
        written = os.pwrite(handle, left, position)
        left, position = left[written:], position + written


def punch(handle: int, start: int, end: int) -> None:
    """Free bytes of a file, which are zeros then. The size of the file does not change.

    Args:
        handle: The file, open for writing.
        start, end: Positions of the first byte, and of the byte behind the last.

    Raises:
        OSError: The file system cannot do this.
    """
    if _LIBC.fallocate(handle, _KEEP_SIZE | _PUNCH_HOLE, start, end - start):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def can_punch(folder: Path) -> bool:
    """Whether the file system of a folder can free parts of a file (ext4, XFS, Btrfs, tmpfs).

    Args:
        folder: An existing folder.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(8192))
        file.flush()
        try:
            punch(file.fileno(), 0, 4096)
        except OSError as error:
            if error.errno in (errno.EOPNOTSUPP, errno.ENOSYS):
                return False
            raise
    return True


def live_readers(mirror: Path) -> Iterator[Path]:
    """The files of the readers of a mirror that still exist. Those of ended processes are deleted.

    The caller holds the lock of the mirror.

    Args:
        mirror: The folder.
    """
    for path in sorted((mirror / READERS).glob("*.pins")):
        try:
            with locked(path, "a reader"):
                path.unlink(missing_ok=True)
        except SlipformError:  # its process lives, and holds the lock
            yield path


def make_way(root: Path, mirror: Path, wanted: int) -> int:
    """Delete mirrors that nobody uses, the least recently used first, until there is enough space.

    The caller holds the lock of the root.

    Args:
        root: The folder of all mirrors.
        mirror: The mirror that needs space.
        wanted: The bytes that it needs, if it may have so many.

    Returns:
        The bytes that its betons may take.

    Raises:
        StorageError: Other mirrors, which are in use, take all.
    """
    limit = cache_limit(root)
    others = [path for path in root.glob(f"*/{SOURCE}") if path.parent != mirror]
    taken = {path: used_bytes(path.parent) for path in others}
    for path in sorted(others, key=_last_use):
        if sum(taken.values()) + min(wanted, limit) <= limit:
            break
        if time.time() - _last_use(path) > _RECENT and _deleted(path.parent):
            del taken[path]
    left = limit - sum(taken.values())
    if left <= 0:
        raise StorageError(
            f"the cache in {root} is full: its {limit:,} bytes belong to datasets that are in use."
            " Set SLIPFORM_CACHE_SIZE to more, or SLIPFORM_CACHE to another folder."
        )
    return left


def _last_use(source: Path) -> float:
    try:
        return source.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _deleted(mirror: Path) -> bool:
    """Delete a mirror, unless it is in use."""
    try:
        with locked(mirror / LOCK, "a reader"):
            if any(live_readers(mirror)):
                return False
            (mirror / SOURCE).unlink(missing_ok=True)  # first: without it, it is no mirror
            shutil.rmtree(mirror, ignore_errors=True)
    except SlipformError:
        return False
    return True
