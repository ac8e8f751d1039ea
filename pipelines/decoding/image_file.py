"""Image files before decoding: supported formats, tests for images, reading.

In: a path, or the first bytes of a file. Out: all bytes of the file, or whether it is an image.
This module is quick to import: it needs neither numpy nor Pillow.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path

__all__ = ["ENDINGS", "FORMATS", "looks_like_image", "read_bytes", "read_head", "size_of_file"]

# The supported formats, by Pillow's names, and the endings of their files.
FORMATS: dict[str, tuple[str, ...]] = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "AVIF": (".avif",),
    "JPEG2000": (".jp2", ".j2k", ".jpf", ".jpx"),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
}
ENDINGS = tuple(ending for endings in FORMATS.values() for ending in endings)

# What a failed open() says about the file. Other codes, such as EIO, say nothing about it.
_FILE_ERRORS = frozenset(
    {
        errno.EACCES, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENODEV, errno.ENOENT,
        errno.ENOTDIR, errno.ENXIO, errno.EOVERFLOW, errno.EPERM,
    }
)  # fmt: skip
_MAX_FILE_BYTES = 1 << 30  # an uncompressed image of 89 megapixels with 16 bits takes half of it
_HEAD_BYTES = 16  # as many as `looks_like_image` needs

_SIGNATURE = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|RIFF.{4}WEBP|.{4}ftypavi[fs]|\0\0\0\x0cjP  |\xff\x4f\xff\x51"
    rb"|II\*\0|MM\0\*|BM.{4}\0\0\0\0|GIF8[79]a|P[1-6]\s",
    re.DOTALL,
)


def looks_like_image(head: bytes) -> bool:
    """Whether the first bytes of a file are those of a supported format.

    Args:
        head: The first 16 bytes, from `read_head`.
    """
    return _SIGNATURE.match(head) is not None


def read_head(path: str | Path) -> bytes:
    """The first 16 bytes of a regular file.

    Args:
        path: Any path.

    Returns:
        The bytes. b"" if the file is not regular or cannot be read.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return b""
    try:
        return os.read(file, _HEAD_BYTES) if stat.S_ISREG(os.fstat(file).st_mode) else b""
    except OSError:
        return b""
    finally:
        os.close(file)


def size_of_file(path: str | Path) -> int:
    """The size of a file in bytes; 0 if it does not exist or cannot be looked at.

    Args:
        path: Any path.
    """
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def read_bytes(path: str | Path) -> bytes:
    """All bytes of an image file.

    Args:
        path: A regular file, or a link to one.

    Returns:
        Its content.

    Raises:
        ValueError: It is a broken link, a folder, FIFO, socket or device, not readable by this
            user, or larger than 1 GiB.
        OSError: It does not exist, or the disk fails.
    """
    # This makes five system calls. open() makes eight, which is slower if nothing is decoded.
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        if error.errno not in _FILE_ERRORS:
            raise
        if os.path.islink(path):
            raise ValueError(f"a link that cannot be followed ({error.strerror})") from None
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"cannot be opened ({error.strerror})") from None
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("not a regular file")
        if status.st_size > _MAX_FILE_BYTES:
            raise ValueError(f"{status.st_size:,} bytes are more than an image may have")
        # One more byte than the size: it shows whether the file has grown.
        data = os.read(file, status.st_size + 1)
        while len(data) != status.st_size and (more := os.read(file, 1 << 20)):
            data += more
        return data
    finally:
        os.close(file)
