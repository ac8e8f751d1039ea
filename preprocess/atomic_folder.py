"""The dataset folder as a whole: replaced in one step, or left as it was.

In: the folder's path. Out: a context with a hidden folder beside it to write to; leaving the
context without an error exchanges the two. A process killed at any moment leaves the old dataset or
the new one, whole; the hidden folder it may leave behind is removed by the next run.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slipform.pipelines.errors import DatasetError
from slipform.pipelines.files import sync_folder
from slipform.pipelines.manifest import FILE_NAME

_RENAME_EXCHANGE = 2  # linux/fs.h
_AT_FDCWD = -100
_OURS = (".beton", ".crc32.npy", ".names.txt", FILE_NAME, "rejected.csv", "report.txt")


@contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """An empty folder that becomes `out` when the block ends well, and disappears when it raises.

    Args:
        out: The folder to write or to replace. A link stays: the folder it points to is replaced.

    Yields:
        A hidden folder beside it.

    Raises:
        DatasetError: `out` is a file, a mount point or not ours, or another prep writes to it.
        OSError: What the disk said, with a path.
    """
    out = Path(os.path.realpath(out))
    _check_replaceable(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    building = out.with_name(f".{out.name}.prep")
    lock_path = building.with_name(f"{building.name}.lock")
    lock = os.open(lock_path, os.O_CREAT | os.O_RDWR, 0o644)
    try:
        _lock(lock, lock_path, out)
        try:
            shutil.rmtree(building, ignore_errors=True)  # of a run that was killed
            building.mkdir()
            yield building
            sync_folder(building)  # the files in it were flushed by whoever wrote them
            _put_in_place(building, out)
        except OSError as error:
            if error.filename is None:  # a write to an open file does not say which
                error.filename = str(out)
            raise
        finally:
            shutil.rmtree(building, ignore_errors=True)
            lock_path.unlink()
    finally:
        os.close(lock)


def _check_replaceable(out: Path) -> None:
    """Refuse to replace what is not a dataset: an exchange would delete it."""
    if not out.exists():
        return
    if not out.is_dir():
        raise DatasetError(f"{out} is a file; --out takes the folder to write.")
    if os.path.ismount(out):
        raise DatasetError(
            f"{out} is a mount point, which cannot be replaced as a whole. Choose a folder inside"
            f" it: --out {out / 'data'}"
        )
    foreign = sorted(entry.name for entry in os.scandir(out) if not entry.name.endswith(_OURS))
    if foreign:
        raise DatasetError(
            f"{out} holds {', '.join(foreign[:5])}, which prep did not write and would delete."
            " Choose another folder for --out."
        )


def _lock(lock: int, path: Path, out: Path) -> None:
    try:
        # The kernel drops the lock when the process ends, however it ends.
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not path.exists() or path.stat().st_ino != os.fstat(lock).st_ino:
            # another run ended, and removed the file, between our opening and our locking it
            raise BlockingIOError
    except BlockingIOError:
        raise DatasetError(
            f"another prep is writing to {out}. Wait for it, or choose another folder for --out."
        ) from None


def _put_in_place(building: Path, out: Path) -> None:
    if out.exists():
        _exchange(building, out)
    else:
        os.rename(building, out)
    sync_folder(out.parent)


def _exchange(first: Path, second: Path) -> None:
    """Swap two folders in one step (Linux's renameat2). Two renames would leave a moment without a
    dataset."""
    libc = ctypes.CDLL(None, use_errno=True)
    if (
        libc.renameat2(
            _AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE
        )
        == 0
    ):
        return
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
        raise DatasetError(
            f"the file system of {second} cannot exchange folders in one step. Remove that one"
            " first, or choose another --out."
        )
    raise OSError(code, os.strerror(code), str(second))
