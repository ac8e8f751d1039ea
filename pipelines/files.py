"""Files and folders: whole writes, safe opening, locks.

In: paths. Out: files that get their final name only after all of their bytes are on the disk. All
files of this project that must not be lost are written by this module.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO

from slipform.pipelines.errors import SlipformError, printable

__all__ = [
    "check_links",
    "locked",
    "open_regular",
    "read_regular",
    "remove_orphans",
    "replacing",
    "sync_folder",
    "write_whole",
]

_SUFFIX = ".slipform-tmp"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path. Its file replaces `path` when the block ends without an exception.

    The file is flushed to the disk (fsync) before it is renamed, and its folder after that. If the
    block raises, the temporary file is deleted, and `path` is unchanged. The file gets the mode of
    a newly created file. If `path` is a link, the file that it points to is replaced.

    Args:
        path: The file to write. Its folder must exist.

    Yields:
        A path in the same folder. It does not exist yet.

    Raises:
        OSError: The write failed (no space, no permission, ...), or `path` is a folder, FIFO,
            socket or device, which a file must not replace. Its file name is `path`.
    """
    path = Path(os.path.realpath(path))
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(mode := os.stat(path).st_mode):
            raise OSError(errno.EINVAL, f"a {_kind(mode)} is there, not a regular file", str(path))
    temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}{_SUFFIX}")
    try:
        yield temporary
        handle = os.open(temporary, os.O_RDONLY)
        try:
            os.fchmod(handle, 0o666 & ~_umask())
            os.fsync(handle)
        finally:
            os.close(handle)
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        if error.filename in (None, str(temporary)):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file whole or not at all, as `replacing` does.

    Args:
        path: The file to write. Its folder must exist.
        content: The content of the file. Text is encoded as UTF-8.

    Raises:
        OSError: The write failed, and `path` is unchanged.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def sync_folder(folder: Path) -> None:
    """Flush the entries of a folder to the disk. A rename survives a crash only after this.

    Args:
        folder: The folder.

    Raises:
        OSError: The disk failed.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_orphans(folder: Path) -> None:
    """Delete the temporary files that a killed process left in a folder.

    Call it only while no other process writes to the folder, for example inside `locked`.

    Args:
        folder: The folder.
    """
    for orphan in Path(folder).glob(f".*{_SUFFIX}"):
        orphan.unlink(missing_ok=True)


def check_links(folder: Path, patterns: Iterable[str]) -> None:
    """Refuse links that lead out of a folder.

    Through such links, a folder of another person could make a command read or replace any file of
    this user.

    Args:
        folder: The folder. It may be a link itself: this user named it.
        patterns: Names in the folder, which may have wildcards. What is directly in a folder with
            such a name is checked, too.

    Raises:
        SlipformError: There is such a link.
    """
    root = Path(os.path.realpath(folder))
    for name in os.listdir(root) if root.is_dir() else ():
        path = root / name
        if any(fnmatchcase(name, pattern) for pattern in patterns):
            _check_inside(path, root)
            for inner in path.iterdir() if path.is_dir() else ():
                _check_inside(inner, root)


def _check_inside(path: Path, root: Path) -> None:
    if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(root):
        raise SlipformError(
            f"{printable(str(path))} is a link to {printable(os.path.realpath(path))}, outside the"
            " folder: it is not followed. If you trust the folder, replace the link by what it"
            " points to."
        )


def open_regular(path: Path, error: type[SlipformError] = SlipformError) -> BinaryIO:
    """Open a regular file for reading. It does not block on a FIFO, and reads from no device.

    Args:
        path: A file, or a link to one.
        error: The class of the error to raise.

    Returns:
        The open binary file.

    Raises:
        SlipformError: `path` does not exist, or is a folder, FIFO, socket or device. The class is
            `error`.
        OSError: The file cannot be opened for another reason, such as its permissions.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise error(f"{path} does not exist") from None
    except OSError as problem:
        if problem.errno in _NOT_A_FILE:
            raise error(f"{path} is not a regular file") from None
        raise
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        os.close(handle)
        raise error(f"{path} is a {_kind(mode)}, not a regular file")
    os.set_blocking(handle, True)
    return os.fdopen(handle, "rb")


def read_regular(
    path: Path, limit: int, contents: str, error: type[SlipformError] = SlipformError
) -> bytes:
    """Read a regular file whole, if it is not longer than any correct one.

    Args:
        path: A file, or a link to one.
        limit: The size of the largest correct file, in bytes.
        contents: What a correct file is for, for the message: "60 samples".
        error: The class of the error to raise.

    Raises:
        SlipformError: The file is longer, or see `open_regular`.
        OSError: The file cannot be read.
    """
    with open_regular(path, error) as file:
        if os.fstat(file.fileno()).st_size > limit:
            raise error(f"{path} is too long for {contents}. Run prep again.")
        return file.read(limit + 1)


@contextmanager
def locked(path: Path, holder: str, *, wait: bool = False) -> Iterator[None]:
    """Hold an exclusive lock on a file during the block.

    The kernel releases the lock when this process ends in any way. If the file system does not
    support locks, the block runs without one.

    Args:
        path: The lock file. It is created if it is missing, and not deleted.
        holder: Who else may hold the lock, for the message: "another train".
        wait: True: wait until the lock is free. False: raise if it is not.

    Raises:
        SlipformError: Another process holds the lock, and `wait` is False.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise SlipformError(
                f"{holder} is working in {Path(path).parent}. Wait until it ends, or use another"
                " folder."
            ) from None
        except OSError:
            pass  # some network file systems have no locks
        yield
    finally:
        with suppress(OSError):  # nothing was written to the file, so no error can lose data
            os.close(handle)


_NOT_A_FILE = (errno.ENXIO, errno.EISDIR, errno.ELOOP)  # ENXIO: a socket
_KINDS = (
    (stat.S_ISDIR, "folder"),
    (stat.S_ISFIFO, "FIFO"),
    (stat.S_ISSOCK, "socket"),
    (stat.S_ISCHR, "device"),
    (stat.S_ISBLK, "device"),
)


def _kind(mode: int) -> str:
    return next((name for test, name in _KINDS if test(mode)), "special file")


def _umask() -> int:
    """The umask of this process. `os.umask` would have to change it, also for other threads."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    for line in status.splitlines():
        if line.startswith("Umask:"):
            return int(line.split()[1], 8)
    return 0o022
