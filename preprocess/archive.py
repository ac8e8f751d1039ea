"""Downloaded archives: tar, tar.gz, zip.

In: a folder or an archive. Out: a context with a folder. Archives may be hostile: no file is
written outside the folder, and no file that is larger than the free space. Archives inside an
archive (the zip of Caltech-101 holds a tar.gz) are unpacked, too, one level deep.
"""

from __future__ import annotations

import errno
import gzip
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO

from slipform.pipelines.errors import DatasetError, printable
from slipform.pipelines.files import open_regular
from slipform.preprocess.temporary_folder import temporary_folder

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
def unpacked(source: Path, keep: Callable[[Path], bool] = lambda file: False) -> Iterator[Path]:
    """Give a folder with the content of a source.

    Temporary folders that a killed process left are deleted.

    Args:
        source: A folder, or a tar, tar.gz or zip.
        keep: keep(file) says whether an archive inside the archive stays as it is.

    Yields:
        `source` itself if it is a folder. Otherwise a temporary folder below TMPDIR, which is
        deleted after the block.

    Raises:
        DatasetError: The file is not an archive, is damaged, or would write outside the folder. Two
            archives inside it hold files of one name.
        OSError: The disk is full or fails.
    """
    if source.is_dir():
        yield source
        return
    if not source.is_file():
        raise DatasetError(f"{source} is neither a folder nor a regular file.")
    with temporary_folder(Path(tempfile.gettempdir()), "slipform-prep-") as folder:
        unpack(source, folder)
        files = {path for path in sorted(folder.rglob("*")) if path.is_file()}
        for inner in sorted(path for path in files if path.name.endswith(_SUFFIXES)):
            if not keep(inner):
                files |= unpack(inner, inner.parent, files)
                inner.unlink()  # its content is there now
                files.remove(inner)
        yield folder


def unpack(archive: Path, folder: Path, occupied: Container[Path] = ()) -> set[Path]:
    """Unpack a tar, tar.gz or zip.

    Only regular files are written. Without links, the name of a file shows whether it is outside
    the folder. Python's own filter for tar files is not used: it exists since 3.11.4, and Debian 12
    has 3.11.2.

    Args:
        archive: A regular file.
        folder: An existing folder for the files.
        occupied: Files that must not be replaced.

    Returns:
        The files that were written.

    Raises:
        DatasetError: The file is not an archive, is damaged, or would write outside the folder or
            to an occupied file.
        OSError: The disk is full or fails.
    """
    room = _Room(archive, folder, occupied)
    with _errors_of(archive), open_regular(archive, DatasetError) as file:
        if tar := _opened_tar(file):
            with tar:
                for member in _members(tar):
                    room.write(tar.extractfile(member), member.size, member.name)
        elif zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as zipped:
                _check_count(len(zipped.infolist()))
                for info in zipped.infolist():
                    if not info.is_dir():
                        room.write(zipped.open(info), info.file_size, info.filename)
        else:
            raise DatasetError(
                f"{archive} is not an archive that can be read ({', '.join(_SUFFIXES)})."
            )
    return room.written


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


@dataclass(frozen=True)
class _Room:
    """The folder that an archive is unpacked to."""

    archive: Path
    folder: Path
    occupied: Container[Path]
    written: set[Path] = field(default_factory=set)

    def write(self, content: IO[bytes] | None, size_bytes: int, name: str) -> None:
        """Write one file of the archive into the folder."""
        inside = PurePosixPath(name.replace("\\", "/"))
        if inside.is_absolute() or ".." in inside.parts or content is None:
            raise _Hostile(f"it would write outside its folder: {name}")
        path = self.folder / inside
        if path in self.occupied:
            with content:
                if _same(content, path):
                    return
            raise DatasetError(
                f"{self.archive.name} holds {printable(name)}, and another file of this name lies"
                " beside it. Unpack the archives into folders of their own, and give those as"
                " --source."
            )
        # Both readers read no more bytes than the declared size.
        if size_bytes > shutil.disk_usage(self.folder).free:
            raise DatasetError(
                f"{self.archive} unpacks to more than {self.folder} has room for. Unpack it"
                " elsewhere and give that folder, or set TMPDIR."
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        with content, open(path, "wb") as file:
            shutil.copyfileobj(content, file)
        self.written.add(path)


def _same(content: IO[bytes], path: Path) -> bool:
    """Whether a file has this content."""
    with open_regular(path, DatasetError) as file:
        while (block := content.read(1 << 20)) == file.read(1 << 20):
            if not block:
                return True
    return False
