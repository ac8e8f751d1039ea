"""The scan of a baseline JPEG: a part of it as pixels at 1/2, 1/4 or 1/8, or a check of all codes.

In: the bytes of a JPEG. Out: RGB pixels of the MCUs of a region, whether the scan is sound, or its
entry points. Compiled by numba.

With entry points, only the rows of the region are read, from the entry point before the region to
its right edge. Without them, the codes above and beside the region are skipped, several
coefficients with one look-up. Reading ends after the last row of the region. Only the low
frequencies of a block in the region are used.
The inverse DCT gives the means of squares of 2 x 2, 4 x 4 or 8 x 8 pixels, with the higher
frequencies set to 0. Subsampled colors have enough frequencies for this, so they are not enlarged.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from slipform.pipelines.decoding.jpeg_blocks import read_block, signed, skip
from slipform.pipelines.decoding.jpeg_codes import WINDOW, fill, long_code, stream_of
from slipform.pipelines.decoding.jpeg_entries import STEP, EntryPoints, make_entries
from slipform.pipelines.decoding.jpeg_layout import Layout, read_layout
from slipform.pipelines.decoding.jpeg_pixels import (
    add_frequency,
    clear,
    finish_block,
    last_needed,
    to_rgb,
)
from slipform.pipelines.kernel import kernel

__all__ = ["decode_region", "find_entries", "is_sound"]

_SHIFT = np.uint64(64 - WINDOW)
_NOWHERE, _NO_OUTPUTS = np.array([0, 0, 0, 1 << 30]), np.zeros((3, 2), np.int64)
_NONE_NEEDED, _NO_PLANES = np.zeros(3, np.int64), np.zeros((3, 0, 0), np.float32)
_NO_PIXELS = np.zeros((0, 0, 3), np.uint8)
_NO_ENTRIES = np.zeros(0, np.int64), np.zeros((0, 3), np.int64)
_ALL, _NOTE, _ENTER = range(3)  # what `_scan` does with entry points


def decode_region(
    jpeg: npt.NDArray[np.uint8],
    layout: Layout,
    region: tuple[int, int, int, int],
    scale: int,
    entries: EntryPoints | None = None,
) -> tuple[npt.NDArray[np.uint8], tuple[int, int]] | None:
    """Decode the MCUs that a region touches, at a fraction of their size.

    Args:
        jpeg: The stream, uint8 [bytes].
        layout: Its layout. `layout.outputs(scale)` has no more than 8.
        region: (x0, y0, x1, y1) in pixels of the image, within it, not empty.
        scale: 2, 4 or 8.
        entries: The entry points of the scan. None: it is read from its first code on.

    Returns:
        RGB pixels, uint8 [H, W, 3], and the point (x, y) of the image where they begin, in pixels
        of the image. None: the scan is damaged.
    """
    (width, height), (side_x, side_y) = layout.size, layout.mcu
    side_x, side_y = 8 * side_x, 8 * side_y
    x0, y0 = region[0] // side_x, region[1] // side_y
    x1, y1 = -(-region[2] // side_x), -(-region[3] // side_y)
    shape = (
        -(-(min(y1 * side_y, height) - y0 * side_y) // scale),
        -(-(min(x1 * side_x, width) - x0 * side_x) // scale),
        3,
    )
    pixels = np.empty(shape, np.uint8)
    # The blocks at the end of a row are written with eight columns, whatever their width.
    planes = np.zeros((3, side_y // scale, (x1 - x0) * side_x // scale + 8), np.float32)
    mcus, outputs = np.array([x0, y0, x1, y1]), layout.outputs(scale)
    shifts = np.log2(outputs).astype(np.int64)
    mode, found = (_ALL, _NO_ENTRIES) if entries is None else (_ENTER, entries)
    sound = _run_scan(
        jpeg, *layout, mcus, shifts, last_needed(outputs), mode, STEP, *found, planes, pixels
    )
    return (pixels, (x0 * side_x, y0 * side_y)) if sound else None


def is_sound(jpeg: bytes | npt.NDArray[np.uint8]) -> bool:
    """Whether this module can decode a JPEG without an error.

    All codes of the scan are read. No pixels are made.

    Args:
        jpeg: The stream, bytes or uint8 [bytes].

    Returns:
        True: libjpeg decodes the stream without an error or a warning. False: it may warn or fail.
    """
    layout = read_layout(jpeg)
    return layout is not None and _read_all(jpeg, layout, _ALL, _NO_ENTRIES)


def find_entries(jpeg: bytes | npt.NDArray[np.uint8]) -> EntryPoints | None:
    """The entry points of a JPEG, found by reading all codes of its scan.

    Args:
        jpeg: The stream, bytes or uint8 [bytes].

    Returns:
        The entry points. None: the JPEG is not sound (`is_sound`).
    """
    layout = read_layout(jpeg)
    if layout is None:
        return None
    entries = make_entries(layout)
    return entries if _read_all(jpeg, layout, _NOTE, entries) else None


def _read_all(
    jpeg: bytes | npt.NDArray[np.uint8],
    layout: Layout,
    mode: int,
    entries: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]],
) -> bool:
    return _run_scan(
        jpeg, *layout, _NOWHERE, _NO_OUTPUTS, _NONE_NEEDED, mode, STEP, *entries, _NO_PLANES,
        _NO_PIXELS,
    )  # fmt: skip


def _run_scan(jpeg: bytes | npt.NDArray[np.uint8], *args: Any) -> bool:
    """`_scan` with its buffers."""
    planes = args[-2]
    buffers = np.zeros(64, np.float32), np.zeros(3, np.int64)
    return bool(_scan(stream_of(jpeg), *args, planes.ravel(), *buffers))


@kernel(_nrt=False)
def _scan(  # type: ignore[no-untyped-def]
    data, frame, parts, quantization, values, codes, limits, offsets, coefficients, skips,
    mcus, shifts, last_used, mode, step, positions, predictors, planes, pixels, flat, block,
    predicted,
):  # fmt: skip
    """Read the codes of a scan, and make the pixels of some MCUs.

    Args:
        data: The stream, uint8 [bytes].
        frame, parts, quantization, values, codes, limits, offsets, coefficients, skips: See
            `Layout`.
        mcus: int64 [4] (x0, y0, x1, y1), the MCUs that are wanted. Rows from y1 on are not read.
        shifts: int64 [3, 2], log2 of the pixels of a block of each component, on each axis (x, y).
        last_used: int64 [3], the last coefficient of each component that has an effect.
        mode: _ALL: all codes are read. _NOTE: they are, and the entry points are written. _ENTER:
            only the codes after the entry points of the wanted MCUs are read.
        step: MCUs from one entry point to the next.
        positions, predictors: See `EntryPoints`. Not read for _ALL.
        planes: float32 [3, H, W], a buffer for the components of a row of MCUs.
        pixels: uint8 [H, W, 3], the output.
        flat: The memory of `planes`.
        block, predicted: Buffers: float32 [64], int64 [3].

    Returns:
        False if a code is impossible, the bytes end too early, a restart marker is missing, or, if
        all rows were read, other bytes than the end of the image follow.
    """
    height, width, components, restart = frame[0], frame[1], frame[2], frame[3]
    most_x, most_y = 1, 1
    for c in range(components):
        predicted[c] = 0
        most_x, most_y = max(most_x, parts[c, 0]), max(most_y, parts[c, 1])
    rows, stride = planes.shape[1], planes.shape[2]
    across = (width + 8 * most_x - 1) // (8 * most_x)
    down = (height + 8 * most_y - 1) // (8 * most_y)
    end, at = len(data), frame[4]
    bits: Any = np.uint64(0)
    count: Any = 0
    padded = 0
    until_restart, number = restart, 0
    first_row, first, stop = 0, 0, across
    if mode == _ENTER:
        first_row, first, stop = mcus[1], mcus[0] // step * step, mcus[2]
    per_row = (across + step - 1) // step
    for row in range(first_row, min(down, mcus[3])):
        if mode == _ENTER:
            entry = row * per_row + first // step
            at = frame[4] + (positions[entry] >> 3)
            at, bits, count, padded = fill(data, end, at, np.uint64(0), 0, 0)
            bits <<= positions[entry] & 7
            count -= positions[entry] & 7
            for c in range(components):
                predicted[c] = predictors[entry, c]
            if restart:
                passed = row * across + first
                begun = passed % restart
                # At the first MCU after a restart marker, the marker is still to be read.
                is_before = begun == 0 and passed > 0
                until_restart = 0 if is_before else restart - begun
                number = (passed // restart - is_before) & 7
        for column in range(first, stop):
            if mode == _NOTE and column % step == 0:
                entry = row * per_row + column // step
                positions[entry] = _position(data, at, count - padded) - 8 * frame[4]
                for c in range(components):
                    predictors[entry, c] = predicted[c]
            if restart and until_restart == 0:
                if padded > count or count - padded >= 8 or at + 2 > end:
                    return False
                if data[at] != 0xFF or data[at + 1] != 0xD0 + number:
                    return False
                at, bits, count, padded = at + 2, np.uint64(0), 0, 0
                until_restart, number = restart, (number + 1) & 7
                for c in range(components):
                    predicted[c] = 0
            until_restart -= 1
            wanted = row >= mcus[1] and mcus[0] <= column < mcus[2]
            for c in range(components):
                dc, ac = np.uint64(parts[c, 3]), np.uint64(4 + parts[c, 4])
                for y in range(parts[c, 1]):
                    for x in range(parts[c, 0]):
                        if count < 32:
                            at, bits, count, padded = fill(data, end, at, bits, count, padded)
                        code = np.int64(codes[dc, bits >> _SHIFT])
                        if code == 0:
                            code = long_code(bits, dc, limits, offsets, values)
                            if code == 0:
                                return False
                        bits <<= code & 255
                        count -= code & 255
                        size = code >> 8
                        if size:
                            predicted[c] += signed(bits, size)
                            bits <<= size
                            count -= size
                        k = 1
                        if wanted:
                            clear(block)
                            table = parts[c, 2]
                            value = np.float32(predicted[c]) * quantization[table, 0]
                            add_frequency(block, 0, value, shifts[c, 0])
                            k, at, bits, count, padded = read_block(
                                data, end, at, bits, count, padded, ac, coefficients, codes, limits,
                                offsets, values, last_used[c], quantization, table, shifts[c, 0],
                                block,
                            )  # fmt: skip
                            if k == 0:
                                return False
                            left = ((column - mcus[0]) * parts[c, 0] + x) << shifts[c, 0]
                            top = c * rows + (y << shifts[c, 1])
                            finish_block(block, shifts[c, 1], flat, top * stride + left, stride)
                        if k < 64:
                            at, bits, count, padded = skip(
                                data, end, at, bits, count, padded, ac, skips, codes, limits,
                                offsets, values, k,
                            )  # fmt: skip
                            if at == 0:
                                return False
        if padded > count:
            return False
        if row >= mcus[1] and mcus[0] < mcus[2]:
            top = (row - mcus[1]) * rows
            to_rgb(planes, components, pixels[top : top + rows])
    if mcus[3] < down or mode == _ENTER:
        return True
    if count - padded >= 8 or at + 2 > end:
        return False
    return data[at] == 0xFF and data[at + 1] == 0xD9


@kernel(_nrt=False)
def _position(data, at, count):  # type: ignore[no-untyped-def]
    """The position in the stream, in bits, of the next bit in a buffer.

    Args:
        data: The stream, uint8 [bytes].
        at: The position of the byte after those in the buffer.
        count: The number of bits in the buffer.
    """
    num = (max(count, 0) + 7) >> 3
    for _ in range(num):
        at -= 1
        if data[at] == 0 and data[at - 1] == 0xFF:  # the 0 only marks the 0xFF as data
            at -= 1
    return 8 * at + 8 * num - max(count, 0)
