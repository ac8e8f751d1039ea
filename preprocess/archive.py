"""Downloaded archives: tar, tar.gz, zip.

In: a folder or an archive. Out: a context with a folder. Archives may be hostile: no file is
written outside the folder, and no file that is larger than the free space. Archives inside an
archive (the zip of Caltech-101 holds a tar.gz) are unpacked, too, one level deep.
"""

from __future__ import annotations

import errno
import fcntl
import gzip
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO

from slipform.pipelines.errors import DatasetError, printable
from slipform.pipelines.files import open_regular

__all__ = ["decompress", "tar_members", "unpack", "unpacked"]

_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".zip")

# The error numbers (errno) that a damaged archive causes. Errors without a number come from the
# readers. Errors with any other number come from the disk.
_ARCHIVES_FAULT = {
    None,
    errno.EINVAL,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
}


# The limit of names and pax headers, which are read into memory as a whole.
_HEADER_BYTES = 1 << 20
# More files than any dataset has: ImageNet-21k has 14 million.
_MAX_FILES = 20_000_000
_PREFIX = "slipform-prep-"


class _Hostile(DatasetError):
    """An archive has content that no dataset has. The message does not name the archive."""


class _Member(tarfile.TarInfo):
    """A member of a tar. Long headers and sparse files are refused: they would need much memory."""

    def _proc_gnulong(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        self._check()
        return super()._proc_gnulong(tar)  # type: ignore[misc]

    def _proc_pax(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        self._check()
        return super()._proc_pax(tar)  # type: ignore[misc]

    def _proc_sparse(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        raise _Hostile("it holds a sparse file, which no dataset has")

    def _proc_gnusparse_10(self, *arguments: object) -> None:
        raise _Hostile("it holds a sparse file, which no dataset has")

    def _check(self) -> None:
        if self.size > _HEADER_BYTES:
            raise _Hostile(f"it has a header of {self.size:,} bytes")


@contextmanager
def unpacked(source: Path) -> Iterator[Path]:
    """Give a folder with the content of a source.

    Temporary folders that a killed process left are deleted.

    Args:
        source: A folder, or a tar, tar.gz or zip.

    Yields:
        `source` itself if it is a folder. Otherwise a temporary folder below TMPDIR, which is
        deleted after the block.

    Raises:
        DatasetError: The file is not an archive, is damaged, or would write outside the folder.
        OSError: The disk is full or fails.
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
            if path.name.endswith(_SUFFIXES) and path.is_file()
        ]:
            unpack(inner, inner.parent)
        yield folder


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    """An empty folder. A lock beside it shows that its process is alive."""
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


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar, tar.gz or zip.

    Only regular files are written. Without links, the name of a file shows whether it is outside
    the folder. Python's own filter for tar files is not used: it exists since 3.11.4, and Debian 12
    has 3.11.2.

    Args:
        archive: A regular file.
        folder: An existing folder for the files.

    Raises:
        DatasetError: The file is not an archive, is damaged, or would write outside the folder.
        OSError: The disk is full or fails.
    """
    with _errors_of(archive), open_regular(archive, DatasetError) as file:
        if tar := _opened_tar(file):
            with tar:
                for member in _members(tar):
                    _write(tar.extractfile(member), member.size, member.name, folder, archive)
        elif zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as zipped:
                _check_count(len(zipped.infolist()))
                for info in zipped.infolist():
                    if not info.is_dir():
                        _write(zipped.open(info), info.file_size, info.filename, folder, archive)
        else:
            raise DatasetError(
                f"{archive} is not an archive that can be read ({', '.join(_SUFFIXES)})."
            )


@contextmanager
def _errors_of(archive: Path) -> Iterator[None]:
    """What an archive causes within the block becomes a DatasetError. Errors of the disk stay."""
    try:
        yield
    except _Hostile as error:
        raise DatasetError(f"{archive}: {printable(error.message)}. Do not trust it.") from None
    except (DatasetError, MemoryError):
        raise
    except Exception as error:  # the readers raise many classes of exceptions for damaged files
        if getattr(error, "errno", None) not in _ARCHIVES_FAULT:
            raise
        raise DatasetError(
            f"{archive} is damaged: {printable(str(error))}. Download it again."
        ) from None


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The regular files of a tar, one after the other. Links and devices are refused."""
    for number, member in enumerate(tar, 1):
        _check_count(number)
        tar.members.clear()  # type: ignore[attr-defined]  # else all stay in memory
        if member.isreg():
            yield member
        elif not member.isdir():
            raise _Hostile(f"it holds a link or device, {member.name}")
    # tarfile ends silently at a damaged header, and where a file was cut short.
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("it ends within a header, or without the mark of its end")


def tar_members(file: IO[bytes], archive: Path) -> Iterator[tarfile.TarInfo]:
    """The regular files of an uncompressed tar, without unpacking it.

    Args:
        file: The tar. It may be moved while the members are read.
        archive: Its path, for messages.

    Yields:
        A member with its name, the position of its content (`offset_data`) and its size.

    Raises:
        DatasetError: The file is not a tar, is damaged, or holds links or devices.
        OSError: The disk fails.
    """
    with _errors_of(archive), tarfile.open(fileobj=file, mode="r:", tarinfo=_Member) as tar:
        yield from _members(tar)


def decompress(archive: Path, out: BinaryIO) -> None:
    """Decompress a tar.gz.

    Args:
        archive: The file.
        out: A file below TMPDIR. The content is written at its position.

    Raises:
        DatasetError: The file is damaged, or there is no room for it.
        OSError: The disk fails.
    """
    with (
        _errors_of(archive),
        open_regular(archive, DatasetError) as raw,
        gzip.GzipFile(fileobj=raw) as content,
    ):
        while block := content.read(1 << 20):
            if len(block) > shutil.disk_usage(tempfile.gettempdir()).free:
                raise DatasetError(
                    f"{archive} unpacks to more than {tempfile.gettempdir()} has room for. Unpack"
                    " it elsewhere, or set TMPDIR."
                )
            out.write(block)


def _check_count(number: int) -> None:
    if number > _MAX_FILES:
        raise _Hostile(f"it holds more than {_MAX_FILES:,} files")


def _opened_tar(file: BinaryIO) -> tarfile.TarFile | None:
    try:
        return tarfile.open(fileobj=file, tarinfo=_Member)
    except tarfile.TarError:
        return None


def _write(
    content: IO[bytes] | None, size_bytes: int, name: str, folder: Path, archive: Path
) -> None:
    """Write one file of an archive into the folder."""
    inside = PurePosixPath(name.replace("\\", "/"))
    if inside.is_absolute() or ".." in inside.parts or content is None:
        raise _Hostile(f"it would write outside its folder: {name}")
    # Both readers read no more bytes than the declared size.
    if size_bytes > shutil.disk_usage(folder).free:
        raise DatasetError(
            f"{archive} unpacks to more than {folder} has room for. Unpack it elsewhere and give"
            " that folder, or set TMPDIR."
        )
    (folder / inside).parent.mkdir(parents=True, exist_ok=True)
    with content, open(folder / inside, "wb") as file:
        shutil.copyfileobj(content, file)
