"""The segments of a baseline JPEG: sizes, quantization, Huffman codes, and where its scan begins.

In: a stream. Out: `Layout`, or None if the stream is not of the kind that `jpeg_scan` decodes: one
scan of Huffman codes, 8 bits, gray or YCbCr. Compiled by numba, except for the allocations. The
layout is that of ITU-T T.81, annex B.

The rules are stricter than those of libjpeg. libjpeg accepts every stream that is accepted here,
without a warning about its segments.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from slipform.pipelines.decoding.jpeg_codes import (
    WINDOW,
    build_codes,
    build_coefficients,
    build_skips,
    stream_of,
)
from slipform.pipelines.kernel import kernel

__all__ = ["Layout", "read_layout"]

_HEIGHT, _WIDTH, _COMPONENTS, _RESTART, _SCAN = range(5)  # positions in `frame`
_MAX_SIDE = 65_500  # of libjpeg
_MAX_BLOCKS = 10  # in an MCU
# The tables of the last sets of codes. Most writers use those of T.81, annex K, for all images. To
# build them took 18 us of the 96 us for a JPEG of 14 kB.
_built: dict[bytes, tuple[npt.NDArray[Any], ...]] = {}
_MAX_BUILT = 16  # 83 kB each


class Layout(NamedTuple):
    """What is needed to decode the scan of a stream.

    Attributes:
        frame: int64 [5]: height and width in pixels, the number of components (1 or 3), MCUs
            between restart markers (0: there are none), and where the scan begins.
        parts: int64 [3, 5]: for each component, its blocks in an MCU on each axis (x, y), and the
            numbers of its quantization, DC and AC tables.
        quantization: float32 [4, 64], in zigzag order.
        values: uint8 [8, 256]: the symbols of the codes, four DC tables and four AC tables.
        codes: uint16 [8, 2**WINDOW], see `build_codes`.
        limits: int32 [8, 17], see `build_codes`.
        offsets: int32 [8, 17], see `build_codes`.
        coefficients: int32 [4, 2**WINDOW], see `build_coefficients`.
        skips: uint16 [4, 2**WINDOW], see `build_skips`.
    """

    frame: npt.NDArray[np.int64]
    parts: npt.NDArray[np.int64]
    quantization: npt.NDArray[np.float32]
    values: npt.NDArray[np.uint8]
    codes: npt.NDArray[np.uint16]
    limits: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int32]
    coefficients: npt.NDArray[np.int32]
    skips: npt.NDArray[np.uint16]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the image in pixels."""
        return int(self.frame[_WIDTH]), int(self.frame[_HEIGHT])

    @property
    def mcu(self) -> tuple[int, int]:
        """Width and height of an MCU in blocks of 8 x 8 pixels."""
        x, y = self.parts[:, :2].max(axis=0).tolist()
        return x, y

    def outputs(self, scale: int) -> npt.NDArray[np.int64]:
        """The pixels that each component's blocks have at 1/scale of the size of the image.

        Args:
            scale: 2, 4 or 8.

        Returns:
            int64 [components, 2] (x, y). More than 8: a component would have to be enlarged.
        """
        return 8 // scale * np.array(self.mcu) // self.parts[: self.frame[_COMPONENTS], :2]


def read_layout(jpeg: bytes | npt.NDArray[np.uint8]) -> Layout | None:
    """Read the segments of a stream up to its scan.

    Args:
        jpeg: The stream, bytes or uint8 [bytes].

    Returns:
        The layout; None: the stream is damaged or of another kind.
    """
    frame, parts = np.zeros(5, np.int64), np.zeros((3, 5), np.int64)
    quantization, values = np.zeros((4, 64), np.float32), np.zeros((8, 256), np.uint8)
    counts = np.zeros((8, 17), np.uint8)
    if not _read(stream_of(jpeg), frame, parts, quantization, values, counts):
        return None
    used = parts[: frame[_COMPONENTS], 3:]
    key = b"".join(one.tobytes() for one in (used, counts, values))
    tables = _built.get(key)
    if tables is None:
        tables = (
            np.empty((8, 1 << WINDOW), np.uint16),
            np.empty((8, 17), np.int32),
            np.empty((8, 17), np.int32),
            np.empty((4, 1 << WINDOW), np.int32),
            np.empty((4, 1 << WINDOW), np.uint16),
        )
        if not _build(used, counts, values, *tables):
            return None
        if len(_built) >= _MAX_BUILT:
            _built.clear()
        _built[key] = tables
    return Layout(frame, parts, quantization, values, *tables)


@kernel
def _word(data, at):  # type: ignore[no-untyped-def]
    """The 16-bit number at a position."""
    return np.int64(data[at]) * 256 + np.int64(data[at + 1])


@kernel
def _read(  # type: ignore[no-untyped-def]
    data, frame, parts, quantization, values, counts
):
    """Fill the arrays of a Layout that need no `_build`. False: see `read_layout`.

    Args:
        data: The stream, uint8 [bytes].
        frame, parts, quantization, values: See `Layout`. They are zeros.
        counts: The number of codes of each length, uint8 [8, 17]. They are zeros.
    """
    size = len(data)
    if size < 4 or data[0] != 0xFF or data[1] != 0xD8:
        return False
    ids = np.zeros(3, np.int64)
    quantized, coded = np.zeros(4, np.bool_), np.zeros(8, np.bool_)
    at = 2
    while at + 4 <= size:
        if data[at] != 0xFF:
            return False
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        first, stop = at + 4, at + 2 + _word(data, at + 2)
        if stop < first or stop > size:
            return False
        if marker == 0xDA:
            if not _read_scan(data, first, stop, frame, parts, ids, quantized, coded):
                return False
            frame[_SCAN] = stop
            return True
        if marker == 0xDB:
            sound = _read_quantization(data, first, stop, quantization, quantized)
        elif marker == 0xC4:
            sound = _read_codes(data, first, stop, counts, values, coded)
        elif marker == 0xC0 or marker == 0xC1:
            sound = frame[_HEIGHT] == 0 and _read_frame(data, first, stop, frame, parts, ids)
        elif marker == 0xDD:
            sound = stop - first == 2
            if sound:
                frame[_RESTART] = _word(data, first)
        elif marker == 0xE0 or marker == 0xEE:
            sound = _is_usual(data, marker, first, stop)
        else:
            sound = 0xE1 <= marker <= 0xEF or marker == 0xFE
        if not sound:
            return False
        at = stop
    return False


@kernel
def _is_usual(data, marker, first, stop):  # type: ignore[no-untyped-def]
    """Whether a JFIF segment is of version 1, and an Adobe segment says YCbCr."""
    length = stop - first
    if marker == 0xE0 and length >= 14 and data[first] == 0x4A and data[first + 1] == 0x46:
        return data[first + 5] == 1
    if marker == 0xEE and length >= 12 and data[first] == 0x41 and data[first + 1] == 0x64:
        return data[first + 11] == 1
    return True


@kernel
def _read_quantization(data, at, stop, quantization, quantized):  # type: ignore[no-untyped-def]
    """Read a DQT segment. False: it is damaged, or of 16 bits."""
    while at < stop:
        table = np.int64(data[at])
        if table > 3 or at + 65 > stop:
            return False
        for k in range(64):
            quantization[table, k] = data[at + 1 + k]
        quantized[table] = True
        at += 65
    return True


@kernel
def _read_codes(data, at, stop, counts, values, coded):  # type: ignore[no-untyped-def]
    """Read a DHT segment. False: it is damaged."""
    while at < stop:
        kind, table = np.int64(data[at]) >> 4, np.int64(data[at]) & 15
        if kind > 1 or table > 3 or at + 17 > stop:
            return False
        table += 4 * kind
        total: Any = 0
        for length in range(1, 17):
            counts[table, length] = data[at + length]
            total += np.int64(data[at + length])
        at += 17
        if total > 256 or at + total > stop:
            return False
        for k in range(total):
            if kind == 0 and data[at + k] > 11:
                return False
            values[table, k] = data[at + k]
        coded[table] = True
        at += total
    return True


@kernel
def _read_frame(data, at, stop, frame, parts, ids):  # type: ignore[no-untyped-def]
    """Read a frame header. False: it is damaged, or unusual."""
    if stop - at < 6:
        return False
    components = np.int64(data[at + 5])
    if data[at] != 8 or components not in (1, 3) or stop - at != 6 + 3 * components:
        return False
    frame[_HEIGHT], frame[_WIDTH] = _word(data, at + 1), _word(data, at + 3)
    frame[_COMPONENTS] = components
    if not (0 < frame[_HEIGHT] <= _MAX_SIDE and 0 < frame[_WIDTH] <= _MAX_SIDE):
        return False
    blocks: Any = 0
    for c in range(components):
        first = at + 6 + 3 * c
        ids[c] = data[first]
        x, y = np.int64(data[first + 1]) >> 4, np.int64(data[first + 1]) & 15
        if x not in (1, 2, 4) or y not in (1, 2, 4) or data[first + 2] > 3:
            return False
        parts[c, 0], parts[c, 1], parts[c, 2] = x, y, data[first + 2]
        blocks += x * y
    if components == 1:  # its MCUs are single blocks
        parts[0, 0], parts[0, 1] = 1, 1
        return True
    is_rgb = ids[0] == 82 and ids[1] == 71 and ids[2] == 66
    distinct = ids[0] != ids[1] and ids[1] != ids[2] and ids[0] != ids[2]
    return blocks <= _MAX_BLOCKS and distinct and not is_rgb


@kernel
def _read_scan(  # type: ignore[no-untyped-def]
    data, at, stop, frame, parts, ids, quantized, coded
):
    """Read a scan header. False: it is damaged, or there are several scans, or no tables."""
    components = frame[_COMPONENTS]
    if components == 0 or stop - at != 4 + 2 * components or data[at] != components:
        return False
    for c in range(components):
        dc, ac = np.int64(data[at + 2 + 2 * c]) >> 4, np.int64(data[at + 2 + 2 * c]) & 15
        if data[at + 1 + 2 * c] != ids[c] or dc > 3 or ac > 3:
            return False
        if not (coded[dc] and coded[4 + ac] and quantized[parts[c, 2]]):
            return False
        parts[c, 3], parts[c, 4] = dc, ac
    return data[stop - 3] == 0 and data[stop - 2] == 63 and data[stop - 1] == 0


@kernel
def _build(  # type: ignore[no-untyped-def]
    used, counts, values, codes, limits, offsets, coefficients, skips
):
    """Make the tables of the codes that the scan uses. False: a set of codes is impossible.

    Args:
        used: int64 [components, 2], the numbers of the DC and AC tables of each component.
        counts, values, codes, limits, offsets, coefficients, skips: See `_read` and `Layout`.
    """
    built = np.zeros(8, np.bool_)
    for c in range(len(used)):
        for table in (used[c, 0], 4 + used[c, 1]):
            if not built[table]:
                built[table] = True
                if not build_codes(
                    counts[table], values[table], codes[table], limits[table], offsets[table]
                ):
                    return False
                if table >= 4:
                    build_coefficients(codes[table], coefficients[table - 4])
                    build_skips(codes[table], skips[table - 4])
    return True
