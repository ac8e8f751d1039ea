"""The operations of a policy on the pixels of one picture. Compiled by numba.

In: a picture of whole levels 0..255, codes and amounts of its operations. Out: the picture, changed
in place. The arithmetic is that of torchvision.transforms.v2.functional on uint8: float32 without
fused operations, and results are cut off to whole levels. An operation that needs statistics of the
picture takes them from the picture as the operations before it left it.

LLVM vectorizes the loops over levels. Those that need the channels of a pixel use `simd`.
"""

from __future__ import annotations

import numpy as np

from slipform.pipelines.kernel import kernel
from slipform.pipelines.plan.operations import (
    AUTO_CONTRAST,
    BRIGHTNESS,
    COLOR,
    CONTRAST,
    EQUALIZE,
    INVERT,
    POSTERIZE,
    SHARPNESS,
    SOLARIZE,
)
from slipform.pipelines.simd import (
    add,
    blue,
    divide,
    floor,
    green,
    halves,
    load8,
    load_pixels,
    multiply,
    red,
    subtract,
    zeros,
)
from slipform.pipelines.stores import store_float32

__all__ = ["operate"]

_RED, _GREEN, _BLUE = np.float32(0.2989), np.float32(0.587), np.float32(0.114)
_ZERO, _HALF, _FOUR, _MOST = np.float32(0), np.float32(0.5), np.float32(4), np.float32(255)
_THIRTEENTH, _UNIT, _IDENTITY = np.float32(1 / 13), np.float32(1 / 255), 0


@kernel
def operate(picture, size, codes, amounts, spans):
    """Apply the operations of a chain.

    Operations before the last one on positions see and change only the pixels of `spans`, so what
    came from outside the image stays black. Those after it see all pixels, as in torchvision.

    Args:
        picture: uint16 [size * size * 3], levels, changed in place.
        size: Side of the picture in pixels.
        codes: uint8 [K], positions in `OPERATIONS`.
        amounts: float32 [K], their magnitudes.
        spans: int64 [size, 2], the pixels first..stop - 1 of each row that show the image. They are
            changed to all pixels.
    """
    values, results = np.zeros(3 * size + 8, np.float32), np.empty(3 * size + 8, np.float32)
    moves = 0
    for k in range(len(codes)):
        moves += _IDENTITY < codes[k] < BRIGHTNESS
    for k in range(len(codes)):
        code, amount = codes[k], amounts[k]
        factor, rest = np.float32(1.0 + amount), np.float32(-amount)
        if moves == 0:
            spans[:, 0], spans[:, 1] = 0, size
        if _IDENTITY < code < BRIGHTNESS:
            moves -= 1
        elif code == BRIGHTNESS:
            _blend(picture, size, spans, factor, _ZERO)
        elif code == CONTRAST:
            mean = _gray_mean(picture, size, spans, values)
            _blend(picture, size, spans, factor, mean * rest)
        elif code == COLOR:
            _color(picture, size, spans, values, results, factor, rest)
        elif code == SHARPNESS:
            _sharpen(picture, size, spans, rest)
        elif code == POSTERIZE:
            mask = np.uint16(255 & (255 << (8 - int(amount))))
            for j in range(size):
                row = _row(picture, size, spans, j)
                for at in range(len(row)):
                    row[at] &= mask
        elif code in (INVERT, SOLARIZE):
            low = _MOST * amount if code == SOLARIZE else _ZERO
            for j in range(size):
                row = _row(picture, size, spans, j)
                for at in range(len(row)):
                    level = row[at]
                    row[at] = 255 - level if np.float32(level) >= low else level
        elif code == AUTO_CONTRAST:
            _stretch(picture, size, spans, values, results)
        elif code == EQUALIZE:
            _equalize(picture, size, spans)


@kernel
def _row(picture, size, spans, j):
    """The levels of the span of row j."""
    return picture[3 * (size * j + spans[j, 0]) : 3 * (size * j + spans[j, 1])]


@kernel
def _load_row(row, values):
    """Copy levels to float32, the last pixel twice. Returns the number of pairs of pixels."""
    count = len(row)
    if count == 0:
        return 0
    for at in range(count):
        values[at] = row[at]
    for at in range(3):
        values[count + at] = row[count - 3 + at]
    return (count // 3 + 1) // 2


@kernel
def _cut_off(value):
    return np.uint16(np.int32(min(max(value, _ZERO), _MOST)))


@kernel
def _blend(picture, size, spans, factor, shift):
    for j in range(size):
        row = _row(picture, size, spans, j)
        for at in range(len(row)):
            row[at] = _cut_off(np.float32(row[at]) * factor + shift)


@kernel(inline="always")
def _gray(pixel):
    """The luma of two pixels as whole levels, in all lanes of each."""
    luma = multiply(red(pixel), halves(_RED, _RED))
    luma = add(luma, multiply(green(pixel), halves(_GREEN, _GREEN)))
    return floor(add(luma, multiply(blue(pixel), halves(_BLUE, _BLUE))))


@kernel
def _gray_mean(picture, size, spans, values):
    lanes, total, pixels = np.empty(8, np.float32), np.int64(0), np.int64(0)
    for j in range(size):
        count = spans[j, 1] - spans[j, 0]
        pixels += count
        # The sum of a row is exact in float32.
        gray = zeros()
        for pair in range(_load_row(_row(picture, size, spans, j), values)):
            gray = add(gray, _gray(load_pixels(values, 6 * pair, 6 * pair + 3)))
        store_float32(lanes, 0, 4, gray)
        total += np.int64(lanes[0]) + np.int64(lanes[4])
        if count % 2:  # the last pixel was counted twice
            last = _gray(load_pixels(values, 3 * count, 3 * count))
            store_float32(lanes, 0, 4, last)
            total -= np.int64(lanes[4])
    return np.float32(total / pixels) if pixels > 0 else _ZERO


@kernel
def _color(picture, size, spans, values, results, factor, rest):
    """Saturation: each pixel away from its gray, or toward it."""
    for j in range(size):
        row = _row(picture, size, spans, j)
        for pair in range(_load_row(row, values)):
            pixel = load_pixels(values, 6 * pair, 6 * pair + 3)
            gray = multiply(_gray(pixel), halves(rest, rest))
            pixel = add(multiply(pixel, halves(factor, factor)), gray)
            store_float32(results, 6 * pair, 6 * pair + 3, pixel)
        for at in range(len(row)):
            row[at] = _cut_off(results[at])


@kernel
def _sharpen(picture, size, spans, rest):
    """Each pixel away from the mean of its neighborhood, or toward it: weights 1, and 5 for the
    pixel itself. The outermost pixels of the picture and of each span keep their levels."""
    if size <= 2:
        return
    line = 3 * size
    above, here = picture[:line].astype(np.float32), picture[line : 2 * line].astype(np.float32)
    below, columns = np.empty(line, np.float32), np.empty(line, np.float32)
    for j in range(1, size - 1):
        begin = 3 * (spans[j, 0] + 1)
        count = max(0, 3 * (spans[j, 1] - 1) - begin)
        row = picture[j * line + begin : j * line + begin + count]
        source = picture[(j + 1) * line : (j + 2) * line]
        for i in range(line):
            below[i] = source[i]
            columns[i] = above[i] + here[i] + below[i]
        left, right = columns[begin - 3 :], columns[begin + 3 :]
        middle, own = columns[begin:], here[begin:]
        for i in range(count):
            # Sums of whole numbers are exact. A thirteenth is never half way between two levels.
            total = left[i] + middle[i] + right[i] + _FOUR * own[i]
            mean = np.floor(total * _THIRTEENTH + _HALF)
            row[i] = _cut_off(own[i] + (mean - own[i]) * rest)
        above, here, below = here, below, above


@kernel
def _stretch(picture, size, spans, values, results):
    """Auto contrast: the lowest level of a channel becomes 0, and the highest one 255."""
    lowest, highest = np.full(3 * size, 255, np.uint16), np.zeros(3 * size, np.uint16)
    for j in range(size):
        row, begin = _row(picture, size, spans, j), 3 * spans[j, 0]
        low_row, high_row = lowest[begin : begin + len(row)], highest[begin : begin + len(row)]
        for at in range(len(row)):
            low_row[at] = min(low_row[at], row[at])
            high_row[at] = max(high_row[at], row[at])
    lows, scales = np.zeros(8, np.float32), np.ones(8, np.float32)
    for c in range(3):
        first, last = np.float32(lowest[c::3].min()), np.float32(highest[c::3].max())
        if first >= last:
            first, last = _ZERO, _MOST
        lows[c] = lows[c + 4] = first
        scales[c] = scales[c + 4] = (last - first) * _UNIT
    low, scale = load8(lows, 0), load8(scales, 0)
    for j in range(size):
        row = _row(picture, size, spans, j)
        for pair in range(_load_row(row, values)):
            pixel = load_pixels(values, 6 * pair, 6 * pair + 3)
            pixel = divide(subtract(pixel, low), scale)
            store_float32(results, 6 * pair, 6 * pair + 3, pixel)
        for at in range(len(row)):
            row[at] = _cut_off(results[at])


@kernel
def _equalize(picture, size, spans):
    """Histogram equalization as in Pillow. A channel of nearly one level stays."""
    pixels = picture.reshape(-1, 3)
    counts, table = np.zeros((3, 256), np.int64), np.empty((3, 256), np.uint16)
    for j in range(size):
        for at in range(size * j + spans[j, 0], size * j + spans[j, 1]):
            for c in range(3):
                counts[c, pixels[at, c]] += 1
    for c in range(3):
        high = 255
        while high > 0 and counts[c, high] == 0:
            high -= 1
        step = (counts[c].sum() - counts[c, high]) // 255
        total = step // 2
        for level in range(256):
            table[c, level] = min(total // step, 255) if step > 0 else level
            total += counts[c, level]
    for j in range(size):
        for at in range(size * j + spans[j, 0], size * j + spans[j, 1]):
            for c in range(3):
                pixels[at, c] = table[c, pixels[at, c]]
