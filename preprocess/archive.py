"""Archives as they were downloaded: tar, tar.gz, zip.

In: a folder or an archive. Out: a context with a folder. An archive is taken for hostile: nothing is written outside that folder,
and nothing beyond what the disk holds. Archives inside (Caltech-101's zip holds a tar.gz) are unpacked too, one level deep.
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

from pipelines.errors import DatasetError

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".zip")

# Errors without a number are the readers' own; those with one are the disk's, except where a damaged table or name causes them.
_ARCHIVES_FAULT = {None, errno.EINVAL, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST}


@contextmanager
def unpacked(source: Path) -> Iterator[Path]:
    """Yield `source` itself if it is a folder, else a temporary folder (below TMPDIR) with what the archive holds."""
    if source.is_dir():
        yield source
        return
    with tempfile.TemporaryDirectory(prefix="prep-") as name:
        folder = Path(name)
        unpack(source, folder)
        for inner in [path for path in sorted(folder.rglob("*")) if path.name.endswith(SUFFIXES) and path.is_file()]:
            unpack(inner, inner.parent)
        yield folder


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar, tar.gz or zip into `folder`. Raises DatasetError where it is damaged, or would write elsewhere."""
    try:
        if tarfile.is_tarfile(archive):
            with tarfile.open(archive) as tar:
                for member in tar:
                    _check_room(member.size, folder, archive)
                    # "data" refuses absolute names, "..", links that lead out, devices; and ignores owners and modes.
                    tar.extract(member, folder, filter="data")
        elif zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as zipped:
                for info in zipped.infolist():
                    inside = PurePosixPath(info.filename.replace("\\", "/"))
                    if inside.is_absolute() or ".." in inside.parts:
                        raise DatasetError(f"{archive} would write outside its folder: {info.filename}. Do not trust it.")
                    _check_room(info.file_size, folder, archive)  # zipfile stops at the size that was declared
                    zipped.extract(info, folder)
        else:
            raise DatasetError(f"{archive} is neither a folder nor an archive that can be read ({', '.join(SUFFIXES)}).")
    except tarfile.FilterError as error:
        raise DatasetError(f"{archive} would write outside its folder: {error}. Do not trust it.") from None
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


def _check_room(size_bytes: int, folder: Path, archive: Path) -> None:
    if size_bytes > shutil.disk_usage(folder).free:
        raise DatasetError(
            f"{archive} unpacks to more than {folder} has room for. Unpack it elsewhere and give that folder, or set TMPDIR."
        )
