"""Compressed tars: gzip and zstd.

In: a file. Out: its content in blocks, or as a file that is decompressed as far as it is read. A
file may be hostile: it is not decompressed to more than the free space, nor to more than 1,100
times its size. zstd needs the package zstandard, which is in the extra `zstd`.
"""

from __future__ import annotations

import gzip
import io
import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

from slipform.pipelines.errors import ConfigError, DatasetError
from slipform.pipelines.files import open_regular
from slipform.preprocess.archive_errors import Hostile, errors_of

__all__ = ["COMPRESSED", "blocks", "content", "is_zstd"]

COMPRESSED = (".tar.gz", ".tgz", ".tar.zst", ".tzst")  # endings
_BLOCK_BYTES = 1 << 20
_WINDOW_BYTES = 128 << 20  # the limit of the command zstd, too; the decoder allocates it
# gzip cannot do better than 1,032 : 1, and zstd reaches 32,000 : 1 for zeros. Small files are free.
_MOST_TIMES = 1100
_SMALL_BYTES = 1 << 30


def is_zstd(file: BinaryIO) -> bool:
    """Whether a file begins as zstd's frames do (RFC 8878).

    Args:
        file: At its begin, where it stays.
    """
    head = file.read(4)
    file.seek(0)
    skippable = len(head) == 4 and head[0] >> 4 == 5 and head[1:] == b"\x2a\x4d\x18"
    return head == b"\x28\xb5\x2f\xfd" or skippable


def blocks(archive: Path) -> Generator[bytes, None, None]:
    """Decompress a file.

    Args:
        archive: A file, compressed by gzip or zstd.

    Yields:
        The content in blocks of at most 1 MiB. The end of a zstd file may be missing: check that
        the content is whole.

    Raises:
        ConfigError: zstandard is not installed.
        DatasetError: The file is damaged or hostile, or TMPDIR has no room for its content.
        OSError: The disk fails.
    """
    with errors_of(archive), open_regular(archive, DatasetError) as raw, _reader(raw) as reader:
        total, most = 0, max(_SMALL_BYTES, _MOST_TIMES * os.fstat(raw.fileno()).st_size)
        while block := reader.read(_BLOCK_BYTES):
            total += len(block)
            if total > most:
                raise Hostile(f"it unpacks to more than {_MOST_TIMES:,} times its size")
            if len(block) > shutil.disk_usage(tempfile.gettempdir()).free:
                raise DatasetError(
                    f"{archive} unpacks to more than {tempfile.gettempdir()} has room for. Unpack"
                    " it elsewhere, or set TMPDIR."
                )
            yield block


def _reader(raw: BinaryIO) -> Any:
    """A file object with the content."""
    if not is_zstd(raw):
        return gzip.GzipFile(fileobj=raw)
    try:
        import zstandard
    except ImportError:
        raise ConfigError(
            "files that zstd compressed need zstandard. Install it: pip install 'slipform[zstd]'"
        ) from None
    decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES)
    return decompressor.stream_reader(raw, read_across_frames=True, closefd=False)


def content(archive: Path) -> BinaryIO:
    """The content of a compressed file, as a file. It is decompressed as far as it is read.

    Args:
        archive: A file, compressed by gzip or zstd.

    Returns:
        A file that can be read and moved, but not to its end. The caller closes it. Reading it
        raises what `blocks` raises.
    """
    return cast(BinaryIO, _Content(archive))


class _Content(io.RawIOBase):
    """See `content`. What is decompressed lies in a file without a name."""

    def __init__(self, archive: Path) -> None:
        super().__init__()
        self._blocks = blocks(archive)
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  (closed with this object)
        self._size = self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_END:
            raise io.UnsupportedOperation("the end is known only after decompressing all")
        self._at = offset + (self._at if whence == os.SEEK_CUR else 0)
        return self._at

    def readinto(self, buffer: Any) -> int:
        while self._size < self._at + len(buffer) and (block := next(self._blocks, b"")):
            self._file.seek(self._size)
            self._file.write(block)
            self._size += len(block)
        self._file.seek(self._at)
        found = self._file.readinto(buffer)
        self._at += found
        return found

    def close(self) -> None:
        if not self.closed:
            self._blocks.close()
            with suppress(OSError):  # after an error it writes again what the disk has not taken
                self._file.close()
        super().close()
