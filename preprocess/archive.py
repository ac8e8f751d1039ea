"""Downloaded archives: tar, tar.gz, tar.zst, zip.

In: a folder or an archive. Out: a context with a folder. Archives may be hostile: no file is
written outside the folder, and no file that is larger than the free space. Archives inside an
archive (the zip of Caltech-101 holds a tar.gz) are unpacked, too, one level deep.
"""

from __future__ import annotations

import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Container, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO

from slipform.pipelines.errors import DatasetError, printable
from slipform.pipelines.files import open_regular
from slipform.preprocess.archive_errors import Hostile, errors_of
from slipform.preprocess.compressed import COMPRESSED, content, is_zstd
from slipform.preprocess.temporary_folder import temporary_folder

__all__ = ["tar_members", "unpack", "unpacked"]

_SUFFIXES = (".tar", *COMPRESSED, ".zip")

# The limit of names and pax headers, which are read into memory as a whole.
_HEADER_BYTES = 1 << 20
# More files than any dataset has: ImageNet-21k has 14 million.
_MAX_FILES = 20_000_000


class _Member(tarfile.TarInfo):
    """A member of a tar. Long headers and sparse files are refused: they would need much memory."""

    def _proc_gnulong(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        self._check()
        return super()._proc_gnulong(tar)  # type: ignore[misc]

    def _proc_pax(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        self._check()
        return super()._proc_pax(tar)  # type: ignore[misc]

    def _proc_sparse(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        raise Hostile("it holds a sparse file, which no dataset has")

    def _proc_gnusparse_10(self, *arguments: object) -> None:
        raise Hostile("it holds a sparse file, which no dataset has")

    def _check(self) -> None:
        if self.size > _HEADER_BYTES:
            raise Hostile(f"it has a header of {self.size:,} bytes")


@contextmanager
def unpacked(source: Path, keep: Callable[[Path], bool] = lambda file: False) -> Iterator[Path]:
    """Give a folder with the content of a source.

    Temporary folders that a killed process left are deleted.

    Args:
        source: A folder, or a tar, tar.gz, tar.zst or zip.
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
    """Unpack a tar, tar.gz, tar.zst or zip.

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
    with errors_of(archive), ExitStack() as opened:
        file = opened.enter_context(open_regular(archive, DatasetError))
        if compressed := is_zstd(file):  # tarfile knows the other compressions
            file = opened.enter_context(content(archive))
        if tar := _opened_tar(file):
            with tar:
                for member in _members(tar):
                    room.write(tar.extractfile(member), member.size, member.name)
        elif not compressed and zipfile.is_zipfile(file):
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


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The regular files of a tar, one after the other. Links and devices are refused."""
    for number, member in enumerate(tar, 1):
        _check_count(number)
        tar.members.clear()  # type: ignore[attr-defined]  # else all stay in memory
        if member.isreg():
            yield member
        elif not member.isdir():
            raise Hostile(f"it holds a link or device, {member.name}")
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
    with errors_of(archive), tarfile.open(fileobj=file, mode="r:", tarinfo=_Member) as tar:
        yield from _members(tar)


def _check_count(number: int) -> None:
    if number > _MAX_FILES:
        raise Hostile(f"it holds more than {_MAX_FILES:,} files")


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
            raise Hostile(f"it would write outside its folder: {name}")
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
