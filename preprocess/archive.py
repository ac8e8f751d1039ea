"""Archives as they were downloaded: tar, tar.gz, zip.

In: a folder or an archive. Out: a context with a folder. An archive is taken for hostile: nothing
is written outside that folder, and nothing beyond what the disk holds. Archives inside
(Caltech-101's zip holds a tar.gz) are unpacked too, one level deep.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import IO

from slipform.pipelines.errors import DatasetError, printable

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".zip")

# Errors without a number are the readers' own; those with one are the disk's, except where a
# damaged table or name causes them.
_ARCHIVES_FAULT = {
    None,
    errno.EINVAL,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
}


# What a name or a pax header may take; longer ones are read into memory at once.
_HEADER_BYTES = 1 << 20
# More files than any dataset has: ImageNet-21k has 14 million.
_MOST_FILES = 20_000_000
_PREFIX = "slipform-prep-"


class _Hostile(DatasetError):
    """What no dataset does, without the archive's name."""


class _Member(tarfile.TarInfo):
    """A tar's member whose headers cannot ask for memory: long ones and sparse maps are refused."""

    def _proc_gnulong(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        self._check()
        return super()._proc_gnulong(tar)  # type: ignore[misc]

    def _proc_pax(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        self._check()
        return super()._proc_pax(tar)  # type: ignore[misc]

    def _proc_sparse(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        raise _Hostile("it holds a sparse file, as no dataset does")

    def _proc_gnusparse_10(self, *arguments: object) -> None:
        raise _Hostile("it holds a sparse file, as no dataset does")

    def _check(self) -> None:
        if self.size > _HEADER_BYTES:
            raise _Hostile(f"it has a header of {self.size:,} bytes")


@contextmanager
def unpacked(source: Path) -> Iterator[Path]:
    """A folder with what a source holds.

    Args:
        source: A folder, or a tar, tar.gz or zip.

    Yields:
        `source` itself if it is a folder, else a temporary folder (below TMPDIR) that is removed
        afterwards; what a killed process left there is removed before.

    Raises:
        DatasetError: The archive is damaged, would write elsewhere, or is no archive.
        OSError: What the disk said.
    """
    if source.is_dir():
        yield source
        return
    if not source.is_file():
        raise DatasetError(f"{source} is neither a folder nor a regular file.")
    with _temporary_folder() as folder:
        unpack(source, folder)
        for inner in [
            path
            for path in sorted(folder.rglob("*"))
            if path.name.endswith(SUFFIXES) and path.is_file()
        ]:
            unpack(inner, inner.parent)
        yield folder


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    """An empty folder. A lock in it tells the living from those that a kill left behind."""
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
            os.close(lock)


def _is_orphan(folder: Path) -> bool:
    """Whether the folder is this user's and nobody holds its lock. One without a lock is just being
    made."""
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
        os.close(lock)
    return True


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar, tar.gz or zip.

    Files are written here, one by one, and nothing else is: without links no name can lead out that
    does not show it. (Python's own filter for tar files came with 3.11.4; Debian 12 has 3.11.2.)

    Args:
        archive: A regular file.
        folder: Where its files go; must exist.

    Raises:
        DatasetError: The archive is damaged, would write elsewhere, or is no archive.
        OSError: What the disk said.
    """
    try:
        if tar := _opened_tar(archive):
            with tar:
                for number, member in enumerate(tar, 1):
                    _check_count(number)
                    tar.members.clear()  # type: ignore[attr-defined]  # else all stay in memory
                    if member.isreg():
                        _write(tar.extractfile(member), member.size, member.name, folder, archive)
                    elif not member.isdir():
                        raise _Hostile(f"it holds a link or device, {member.name}")
        elif zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as zipped:
                _check_count(len(zipped.infolist()))
                for info in zipped.infolist():
                    if not info.is_dir():
                        _write(zipped.open(info), info.file_size, info.filename, folder, archive)
        else:
            raise DatasetError(f"{archive} is no archive that can be read ({', '.join(SUFFIXES)}).")
    except _Hostile as error:
        raise DatasetError(f"{archive}: {printable(error.message)}. Do not trust it.") from None
    except DatasetError:
        raise
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        zlib.error,
        LZMAError,
        EOFError,
        ValueError,
        NotImplementedError,
        RuntimeError,
        OSError,
    ) as error:
        if getattr(error, "errno", None) not in _ARCHIVES_FAULT:
            raise
        raise DatasetError(
            f"{archive} is damaged: {printable(str(error))}. Download it again."
        ) from None


def _check_count(number: int) -> None:
    if number > _MOST_FILES:
        raise _Hostile(f"it holds more than {_MOST_FILES:,} files")


def _opened_tar(archive: Path) -> tarfile.TarFile | None:
    try:
        return tarfile.open(archive, tarinfo=_Member)
    except tarfile.TarError:
        return None


def _write(
    content: IO[bytes] | None, size_bytes: int, name: str, folder: Path, archive: Path
) -> None:
    inside = PurePosixPath(name.replace("\\", "/"))
    if inside.is_absolute() or ".." in inside.parts or content is None:
        raise _Hostile(f"it would write outside its folder: {name}")
    # Both readers stop at the size that was declared.
    if size_bytes > shutil.disk_usage(folder).free:
        raise DatasetError(
            f"{archive} unpacks to more than {folder} has room for. Unpack it elsewhere and give"
            " that folder, or set TMPDIR."
        )
    (folder / inside).parent.mkdir(parents=True, exist_ok=True)
    with content, open(folder / inside, "wb") as file:
        shutil.copyfileobj(content, file)
