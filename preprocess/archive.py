"""Archives as they were downloaded: tar, tar.gz, zip.

In: a folder or an archive. Out: a context with a folder. An archive is taken for hostile: nothing
is written outside that folder, and nothing beyond what the disk holds. Archives inside
(Caltech-101's zip holds a tar.gz) are unpacked too, one level deep.
"""

from __future__ import annotations

import errno
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import IO

from slipform.pipelines.errors import DatasetError

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


@contextmanager
def unpacked(source: Path) -> Iterator[Path]:
    """Yield `source` itself if it is a folder, else a temporary folder (below TMPDIR) with what the
    archive holds."""
    if source.is_dir():
        yield source
        return
    with tempfile.TemporaryDirectory(prefix="prep-") as name:
        folder = Path(name)
        unpack(source, folder)
        for inner in [
            path
            for path in sorted(folder.rglob("*"))
            if path.name.endswith(SUFFIXES) and path.is_file()
        ]:
            unpack(inner, inner.parent)
        yield folder


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar, tar.gz or zip into `folder`. Raises DatasetError where it is damaged, or would
    write elsewhere.

    Files are written here, one by one, and nothing else is: without links no name can lead out that
    does not show it. (Python's own filter for tar files came with 3.11.4; Debian 12 has 3.11.2.)
    """
    try:
        if tarfile.is_tarfile(archive):
            with tarfile.open(archive) as tar:
                for member in tar:
                    if member.isreg():
                        _write(tar.extractfile(member), member.size, member.name, folder, archive)
                    elif not member.isdir():
                        raise DatasetError(
                            f"{archive} holds a link or device, {member.name}, as no dataset does."
                            " Do not trust it."
                        )
        elif zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as zipped:
                for info in zipped.infolist():
                    if not info.is_dir():
                        _write(zipped.open(info), info.file_size, info.filename, folder, archive)
        else:
            raise DatasetError(
                f"{archive} is neither a folder nor an archive that can be read"
                f" ({', '.join(SUFFIXES)})."
            )
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
        if isinstance(error, DatasetError) or getattr(error, "errno", None) not in _ARCHIVES_FAULT:
            raise
        raise DatasetError(f"{archive} is damaged: {error}. Download it again.") from None


def _write(
    content: IO[bytes] | None, size_bytes: int, name: str, folder: Path, archive: Path
) -> None:
    inside = PurePosixPath(name.replace("\\", "/"))
    if inside.is_absolute() or ".." in inside.parts or content is None:
        raise DatasetError(f"{archive} would write outside its folder: {name}. Do not trust it.")
    if (
        size_bytes > shutil.disk_usage(folder).free
    ):  # both readers stop at the size that was declared
        raise DatasetError(
            f"{archive} unpacks to more than {folder} has room for. Unpack it elsewhere and give"
            " that folder, or set TMPDIR."
        )
    (folder / inside).parent.mkdir(parents=True, exist_ok=True)
    with content, open(folder / inside, "wb") as file:
        shutil.copyfileobj(content, file)
