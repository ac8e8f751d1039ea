"""Entry points: places in the scan of a large JPEG where reading of its codes can begin.

The codes of a scan follow each other without marks, and DC coefficients are coded as differences,
so a decoder must read a JPEG from its first code on. `prep` reads all codes once, to check them.
Every STEP MCUs of each row, it notes the position of the next bit and the DC predictors. Then
`jpeg_scan` reads the rows of a region alone, and each row from the entry point before the region
to its right edge.

In: positions and predictors. Out: bytes that prep writes after a JPEG in a beton, and the reverse.
They take 0.3 to 0.5 % of the size of a photo of quality 85 to 95. The table of the beton does not
contain them, so ffcv and other readers do not see them.

The layout, little-endian: magic 8 bytes, CRC-32 u4 of all that follows, bytes of the JPEG u4,
number of entry points n u4, positions u4 [n], predictors i2 [n, 3].
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from slipform.pipelines.decoding.jpeg_layout import Layout

__all__ = ["LARGE_PIXELS", "MAGIC", "STEP", "EntryPoints", "make_entries", "read_entries"]

# MCUs from one entry point to the next. With 16, the entry points take twice the space, and regions
# of photos of 1920 x 1440 and 4000 x 3000 pixels take about as long.
STEP = 32
LARGE_PIXELS = 1 << 18  # a reduced decode of smaller images saves little time
MAGIC = b"SFENTRY1"  # stored entry points begin with it
_HEADER = np.dtype([("magic", "S8"), ("crc32", "<u4"), ("jpeg_bytes", "<u4"), ("count", "<u4")])
_CHECKED = 12  # where the checked bytes begin


class EntryPoints(NamedTuple):
    """The entry points of one scan, row by row of MCUs.

    Attributes:
        positions: int64 [n], where the next code begins, in bits from the first byte of the scan.
            The bytes 0 that are stuffed after 0xFF count, too.
        predictors: int64 [n, 3], the DC predictor of each component.
    """

    positions: npt.NDArray[np.int64]
    predictors: npt.NDArray[np.int64]

    def packed(self, jpeg_bytes: int) -> bytes:
        """The bytes to write after a JPEG.

        Args:
            jpeg_bytes: The size of the JPEG in bytes.

        Returns:
            The bytes. b"": a number is too large for its field.
        """
        low, high = np.iinfo(np.int16).min, np.iinfo(np.int16).max
        if jpeg_bytes >= 1 << 29 or self.predictors.min() < low or self.predictors.max() > high:
            return b""
        body = self.positions.astype("<u4").tobytes() + self.predictors.astype("<i2").tobytes()
        header = np.zeros((), _HEADER)
        header[()] = (MAGIC, 0, jpeg_bytes, len(self.positions))
        header["crc32"] = zlib.crc32(header.tobytes()[_CHECKED:] + body)
        return header.tobytes() + body


def _count(layout: Layout) -> int:
    """The number of entry points."""
    (width, height), (side_x, side_y) = layout.size, layout.mcu
    return -(-height // (8 * side_y)) * -(-width // (8 * side_x * STEP))


def make_entries(layout: Layout) -> EntryPoints:
    """Entry points to fill in.

    Args:
        layout: The layout of the JPEG.
    """
    count = _count(layout)
    return EntryPoints(np.zeros(count, np.int64), np.zeros((count, 3), np.int64))


def read_entries(
    after: npt.NDArray[np.uint8], jpeg_bytes: int, layout: Layout
) -> EntryPoints | None:
    """Read the entry points after a JPEG.

    Args:
        after: uint8, what follows the JPEG in its file. It may be anything.
        jpeg_bytes: The size of the JPEG in bytes.
        layout: The layout of the JPEG.

    Returns:
        The entry points. None: there are none, or they are damaged or of another JPEG.
    """
    # Most betons have none. What follows may be another sample, or another file, which may be
    # truncated: nothing behind the header is read before the header is right.
    if after[: len(MAGIC)].tobytes() != MAGIC or len(after) < _HEADER.itemsize:
        return None
    header, count = after[: _HEADER.itemsize].view(_HEADER)[0], _count(layout)
    if header["jpeg_bytes"] != jpeg_bytes or header["count"] != count:
        return None
    size = _HEADER.itemsize + count * (4 + 3 * 2)
    stored = after[:size].tobytes()
    if len(stored) < size or header["crc32"] != zlib.crc32(stored[_CHECKED:]):
        return None
    positions = np.frombuffer(stored, "<u4", count, _HEADER.itemsize)
    predictors = np.frombuffer(stored, "<i2", 3 * count, _HEADER.itemsize + 4 * count)
    return EntryPoints(positions.astype(np.int64), predictors.astype(np.int64).reshape(-1, 3))
