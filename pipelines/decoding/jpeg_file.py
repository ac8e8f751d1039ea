"""The header of a JPEG file: its size, and whether its bytes can be stored unchanged.

In: the bytes of a file. Out: `JpegHeader`. Reading takes about 8 µs. Pillow's `open` takes about
100 µs, which would be the slowest part of a run that does not decode. The layout is that of ITU-T
T.81, annex B.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

__all__ = ["ORIENTATION_TAG", "JpegHeader", "is_jpeg", "read_header"]

# Start-of-frame markers. All decoders support the common ones. DALI and nvJPEG may not support the
# others (lossless, arithmetic), nor every sampling of chroma.
_COMMON_FRAMES = {0xC0, 0xC1, 0xC2}
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_START_OF_SCAN, _END = 0xDA, 0xD9
_APP1 = 0xE1
ORIENTATION_TAG = 0x0112  # EXIF's tag of the orientation
_SEGMENT = struct.Struct(">BBH").unpack_from  # 0xFF, marker, length


class JpegHeader(NamedTuple):
    """What the header of a JPEG says.

    Attributes:
        width: Width in pixels.
        height: Height in pixels.
        convert: Why the bytes cannot be stored unchanged, in words for the manifest: ("cmyk",
            "exif rotation"), ... Empty if they can.
        scan: Where the header of the first scan begins, in bytes.
    """

    width: int
    height: int
    convert: tuple[str, ...]
    scan: int


def is_jpeg(data: bytes) -> bool:
    """Whether a file is a JPEG.

    Args:
        data: Its first bytes, 3 or more.
    """
    return data[:3] == b"\xff\xd8\xff"


def read_header(data: bytes | memoryview) -> JpegHeader:
    """Read the segments of a JPEG up to its first scan.

    Args:
        data: All bytes of the file.

    Returns:
        The header.

    Raises:
        ValueError: The segments are damaged, or there is no frame or scan.
    """
    position, frame, convert, last = 2, None, [], len(data) - 4
    while True:
        prefix, marker, length = _SEGMENT(data, position) if position <= last else (0, 0, 0)
        if prefix != 0xFF:
            raise ValueError(f"broken JPEG: no marker at byte {position} of {len(data)}")
        if marker == 0xFF:  # fill bytes may stand before a marker
            position += 1
            continue
        if marker in _FRAMES:
            if length < 8 or position + 10 > len(data) or frame is not None:
                raise ValueError("broken JPEG: no sound frame header")
            precision, height, width, components = struct.unpack_from(">BHHB", data, position + 4)
            frame = (width, height)
            if components not in (1, 3):
                convert.append("cmyk" if components == 4 else f"{components} channels")
            sampling = bytes(data[position + 11 : position + 11 + 3 * components : 3])
            unusual = components == 3 and not _is_usual_sampling(sampling)
            if marker not in _COMMON_FRAMES or precision != 8 or unusual:
                convert.append("unusual jpeg coding")
        elif marker == _APP1 and data[position + 4 : position + 10] == b"Exif\0\0":
            if _orientation(bytes(data[position + 4 : position + 2 + length])) != 1:
                convert.append("exif rotation")
        elif marker == _START_OF_SCAN:
            break
        elif marker == _END or length < 2:
            raise ValueError("broken JPEG: it ends before its first scan")
        position += 2 + length
    if frame is None or 0 in frame:
        raise ValueError("broken JPEG: no frame header, or one without pixels")
    return JpegHeader(*frame, tuple(convert), position)


def _is_usual_sampling(factors: bytes) -> bool:
    """Whether all decoders support the sampling factors of Y, Cb and Cr: 4:4:4, 4:2:2, 4:2:0, 4:4:0
    or 4:1:1."""
    return len(set(factors)) == 1 or (
        factors[:1] in (b"\x21", b"\x22", b"\x12", b"\x41") and factors[1:] == b"\x11\x11"
    )


def _orientation(segment: bytes) -> int:
    """The EXIF orientation, 1..8. 1, which is upright, if the tag is missing or unreadable."""
    from PIL import Image

    try:
        exif = Image.Exif()
        exif.load(segment)
        value = exif.get(ORIENTATION_TAG, 1)
    except Exception:  # Pillow raises many classes of exceptions for damaged tags
        return 1
    return value if value in range(1, 9) else 1
