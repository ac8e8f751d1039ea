"""The dataset folder as a whole: it is replaced in one step, or not changed.

In: the path of the folder. Out: a context with a hidden folder beside it to write to. When the
block ends without an error, the two are exchanged. A process that is killed at any moment leaves
the complete old dataset or the complete new one. It may also leave the hidden folder, which the
next run deletes.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from slipform.pipelines.checksums import crc32_path
from slipform.pipelines.errors import DatasetError, printable
from slipform.pipelines.files import sync_folder
from slipform.pipelines.label_table import label_table_path
from slipform.pipelines.manifest import FILE_NAME
from slipform.pipelines.sample_names import names_path
from slipform.preprocess.claim import CLAIM, is_trial
from slipform.preprocess.temporary_folder import naming

__all__ = ["REJECTED", "REPORT", "completes", "is_ours", "replacing"]

REJECTED = "rejected.csv"
REPORT = "report.txt"

_RENAME_EXCHANGE = 2  # linux/fs.h
_AT_FDCWD = -100
_BETONS = tuple(Path(f"{split}.beton") for split in ("train", "val", "test"))
# The files that prep writes. `replacing` accepts no others, so that each dataset can be replaced.
_OURS = {FILE_NAME, REJECTED, REPORT, CLAIM} | {
    path.name
    for beton in _BETONS
    for path in (beton, crc32_path(beton), names_path(beton), label_table_path(beton))
}
_SHARD = re.compile(r"(train|val|test|shard)-\d{5}-of-\d{5}")  # of train-00003-of-00008.beton


@contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """Give an empty folder. It becomes `out` when the block ends without an exception.

    If the block raises, the folder is deleted, and `out` is unchanged.

    Args:
        out: The folder to write or replace. If it is a link, the folder that it points to is
            replaced.

    Yields:
        A hidden folder beside `out`.

    Raises:
        DatasetError: `out` is a file or a mount point, holds files that prep did not write, or
            another prep writes to it.
        OSError: The write failed. The error names a path.
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
            shutil.rmtree(building, ignore_errors=True)  # a run that was killed may have left it
            with naming(out):
                building.mkdir()
                yield building
                assert {*os.listdir(building)} <= _OURS, "add the new kind of file to _OURS"
                sync_folder(building)  # the writers have flushed the files in it
                _put_in_place(building, out)
        finally:
            shutil.rmtree(building, ignore_errors=True)
            lock_path.unlink()
    finally:
        with suppress(OSError):  # nothing was written to the file, so no error can lose data
            os.close(lock)


def is_ours(name: str) -> bool:
    """Whether prep writes files of this name, with or without shards.

    Args:
        name: The name of a file.
    """
    return is_trial(name) or _SHARD.sub(r"\1", name, count=1) in {*_OURS, "shard.json"}


def completes(name: str) -> bool:
    """Whether a file of this name says that others are complete: dataset.json, or a record.

    Args:
        name: The name of a file.
    """
    return _SHARD.sub(r"\1", name, count=1) in (FILE_NAME, "shard.json")


def _check_replaceable(out: Path) -> None:
    """Refuse to replace a folder that is not a dataset: the exchange would delete it."""
    if not out.exists():
        return
    if not out.is_dir():
        raise DatasetError(f"{out} is a file; --out takes the folder to write.")
    if os.path.ismount(out):
        raise DatasetError(
            f"{out} is a mount point, which cannot be replaced as a whole. Choose a folder inside"
            f" it: --out {out / 'data'}"
        )
    found = sorted(entry.name for entry in os.scandir(out))
    # Betons in a folder without a manifest may be those of ffcv.
    foreign = [name for name in found if FILE_NAME not in found or not is_ours(name)]
    if foreign:
        raise DatasetError(
            f"{out} holds {printable(', '.join(foreign[:5]))}, which prep did not write and would"
            " delete. Choose another folder for --out."
        )


def _lock(lock: int, path: Path, out: Path) -> None:
    try:
        # The kernel releases the lock when the process ends in any way.
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not path.exists() or path.stat().st_ino != os.fstat(lock).st_ino:
            # Another run ended and removed the file after it was opened and before it was locked.
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
    """Exchange two folders in one step, by Linux's renameat2.

    Between two renames there would be no dataset.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    paths = (_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second))
    if libc.renameat2(*paths, _RENAME_EXCHANGE) == 0:
        return
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
        raise DatasetError(
            f"the file system of {second} cannot exchange folders in one step. Remove that one"
            " first, or choose another --out."
        )
    raise OSError(code, os.strerror(code), str(second))
