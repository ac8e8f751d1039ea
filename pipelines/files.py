"""Files and folders: written whole or not at all, opened only if they are regular, locked.

In: paths. Out: files that have their final name only after all of their bytes reached the disk.
Everything in this project that writes a file which must not be lost writes it through here.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from slipform.pipelines.errors import SlipformError

_SUFFIX = ".slipform-tmp"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, which replaces it when the block ends without an exception.

    The bytes are flushed to the disk (fsync) before the rename, and the rename before the return.
    After an exception the temporary file is gone and `path` is as it was. The file gets the mode
    that a newly created file has, whatever mode the block left it with.

    Args:
        path: The file to write. Its folder must exist.

    Yields:
        A path that does not exist yet, in the same folder.

    Raises:
        OSError: What the disk said (no space, no permission, ...), with `path` as its file name.
    """
    path = Path(os.path.realpath(path))  # a link stays a link: what it points to is replaced
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
    """Write a file whole or not at all; text as UTF-8. See `replacing` for what it promises.

    Args:
        path: The file to write. Its folder must exist.
        content: All of its bytes, or its text.

    Raises:
        OSError: What the disk said; `path` is then as it was.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk: a rename is safe only then."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_orphans(folder: Path) -> None:
    """Delete temporary files that a killed process left in `folder`.

    Call it only while no other process can be writing there, for example under `locked`.
    """
    for orphan in Path(folder).glob(f".*{_SUFFIX}"):
        orphan.unlink(missing_ok=True)


def open_regular(path: Path, error: type[SlipformError] = SlipformError) -> BinaryIO:
    """Open a regular file for reading; never blocks on a FIFO or reads from a device.

    Args:
        path: A file, or a link to one.
        error: The class of the error to raise.

    Returns:
        The open binary file.

    Raises:
        SlipformError: (or `error`) `path` does not exist, or is a folder, FIFO, socket or device.
        OSError: It cannot be opened for another reason, such as its permissions.
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
        kind = next((name for test, name in _KINDS if test(mode)), "special file")
        raise error(f"{path} is a {kind}, not a regular file")
    os.set_blocking(handle, True)
    return os.fdopen(handle, "rb")


@contextmanager
def locked(path: Path, holder: str, *, wait: bool = False) -> Iterator[None]:
    """Hold an exclusive lock on the file `path`, which is created where it is missing and stays.

    The kernel drops the lock when this process ends, however it ends. Where the file system knows
    no locks the block runs without one.

    Args:
        path: The lock file.
        holder: Who else may hold it, for the message: "another train".
        wait: Wait until the lock is free, for what takes a moment.

    Raises:
        SlipformError: Another process holds the lock, and `wait` is not set.
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
        with suppress(OSError):  # nothing was written to it
            os.close(handle)


_NOT_A_FILE = (errno.ENXIO, errno.EISDIR, errno.ELOOP)  # ENXIO: a socket
_KINDS = (
    (stat.S_ISDIR, "folder"),
    (stat.S_ISFIFO, "FIFO"),
    (stat.S_ISSOCK, "socket"),
    (stat.S_ISCHR, "device"),
    (stat.S_ISBLK, "device"),
)


def _umask() -> int:
    """This process' umask. Reading it by setting it would race with other threads."""
    for line in (
        Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    ):
        if line.startswith("Umask:"):
            return int(line.split()[1], 8)
    return 0o022
