"""The operations of a policy on the pixels of one picture. Compiled by numba.

In: a picture of whole levels 0..255, codes and amounts of its operations. Out: the picture, changed
in place. The arithmetic is that of torchvision.transforms.v2.functional on uint8: float32 without
fused operations, and results are cut off to whole levels. An operation that needs statistics of the
picture takes them from the picture as the operations before it left it.

LLVM vectorizes the loops, also those over the channels of a pixel. The exceptions are the counts
and the table of `_equalize`.
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
from slipform.pipelines.rendering.spans import find_spans, last_move, whole_span

__all__ = ["operate", "workspace"]

_RED, _GREEN, _BLUE = np.float32(0.2989), np.float32(0.587), np.float32(0.114)
_ZERO, _HALF, _FOUR, _MOST = np.float32(0), np.float32(0.5), np.float32(4), np.float32(255)
_THIRTEENTH, _UNIT = np.float32(1 / 13), np.float32(1 / 255)
_BLOCK = 1536  # values of which grays are computed at once
_PERIOD = 48  # values after which the channels of vectors repeat


@kernel
def workspace(size):
    """Memory for `operate`: spans of the whole picture and of rows, values, grays, and the channels
    of a block as 0 or 1.

    Args:
        size: Side of the picture in pixels.
    """
    channels = np.zeros((3, _BLOCK), np.float32)
    for c in range(3):
        channels[c, c::3] = 1
    values, grays = np.zeros(_BLOCK + 2, np.float32), np.zeros(_BLOCK + 2, np.float32)
    rows = np.empty((size, 2), np.int64)
    return whole_span(size), rows, values, grays, channels[0], channels[1], channels[2]


@kernel
def operate(picture, size, chains, i, c, matrix, clip, memory):
    """Apply the operations of a chain.

    Operations before the last one on positions see and change only the pixels that show the image,
    so what came from outside stays black. Those after it see all pixels, as in torchvision.

    Args:
        picture: uint8 [size * size * 3 or more], levels, changed in place.
        size: Side of the picture in pixels.
        chains: Codes and amounts, as in `Chains`.
        i, c: Sample and chain.
        matrix, clip: As for `find_spans`.
        memory: From `workspace`.
    """
    codes, amounts = chains
    move, are_found = last_move(codes, i, c), False
    for k in range(codes.shape[2]):
        code, amount = codes[i, c, k], amounts[i, c, k]
        if code < BRIGHTNESS:
            continue
        factor, rest = np.float32(1.0 + amount), np.float32(-amount)
        spans = memory[0]
        if k < move:
            spans = memory[1]
            if not are_found:
                find_spans(matrix, clip, size, spans)
                are_found = True
        if code == BRIGHTNESS:
            _blend(picture, spans, factor, _ZERO)
        elif code == CONTRAST:
            _blend(picture, spans, factor, _gray_mean(picture, spans, memory) * rest)
        elif code == COLOR:
            _color(picture, spans, memory, factor, rest)
        elif code == SHARPNESS:
            _sharpen(picture, size, spans, rest)
        elif code == POSTERIZE:
            _mask(picture, spans, np.uint8(255 & (255 << (8 - int(amount)))))
        elif code == SOLARIZE:
            _invert(picture, spans, np.uint8(np.ceil(_MOST * amount)))
        elif code == INVERT:
            _invert(picture, spans, np.uint8(0))
        elif code == AUTO_CONTRAST:
            _stretch(picture, spans)
        elif code == EQUALIZE:
            _equalize(picture, spans)


@kernel
def _cut_off(value):
    return np.uint8(np.int32(min(max(value, _ZERO), _MOST)))


@kernel
def _blend(picture, spans, factor, shift):
    for s in range(len(spans)):
        row = picture[spans[s, 0] : spans[s, 1]]
        for at in range(len(row)):
            row[at] = _cut_off(np.float32(row[at]) * factor + shift)


@kernel
def _mask(picture, spans, bits):
    """Keep the given bits of each level."""
    for s in range(len(spans)):
        row = picture[spans[s, 0] : spans[s, 1]]
        for at in range(len(row)):
            row[at] &= bits


@kernel
def _invert(picture, spans, lowest):
    """Exchange black and white where a level is `lowest` or more."""
    for s in range(len(spans)):
        row = picture[spans[s, 0] : spans[s, 1]]
        for at in range(len(row)):
            level = row[at]
            row[at] = 255 - level if level >= lowest else level


@kernel
def _find_grays(row, values, grays):
    """The levels of a row as float32, and the luma of each pixel, a whole level, at its red value.
    Computed at each value, because the values of pixels lie 3 apart, which vectors cannot load."""
    for at in range(len(row)):
        values[at] = row[at]
    for at in range(len(row)):
        luma = values[at] * _RED + values[at + 1] * _GREEN + values[at + 2] * _BLUE
        grays[at + 2] = np.floor(luma)


@kernel
def _gray_mean(picture, spans, memory):
    _, _, values, grays, reds, _, _ = memory
    total, pixels = np.int64(0), np.int64(0)
    for s in range(len(spans)):
        for begin in range(spans[s, 0], spans[s, 1], _BLOCK):
            row = picture[begin : min(begin + _BLOCK, spans[s, 1])]
            _find_grays(row, values, grays)
            pixels += len(row) // 3
            part = np.int64(0)
            for at in range(len(row)):
                part += np.int32(grays[at + 2] * reds[at])
            total += part
    return np.float32(total / pixels) if pixels > 0 else _ZERO


@kernel
def _color(picture, spans, memory, factor, rest):
    """Saturation: each pixel away from its gray, or toward it."""
    _, _, values, grays, reds, greens, blues = memory
    for s in range(len(spans)):
        for begin in range(spans[s, 0], spans[s, 1], _BLOCK):
            row = picture[begin : min(begin + _BLOCK, spans[s, 1])]
            _find_grays(row, values, grays)
            for at in range(len(row)):
                # The gray is at the red value, which is 0, 1 or 2 values before this one.
                gray = grays[at + 2] * reds[at] + grays[at + 1] * greens[at] + grays[at] * blues[at]
                row[at] = _cut_off(values[at] * factor + gray * rest)


@kernel
def _sharpen(picture, size, spans, rest):
    """Each pixel away from the mean of its neighborhood, or toward it: weights 1, and 5 for the
    pixel itself. The outermost pixels of the picture and of each span keep their levels."""
    if size <= 2:
        return
    line = 3 * size
    above, here = picture[:line].copy(), picture[line : 2 * line].copy()
    columns = np.empty(line, np.float32)
    for j in range(1, size - 1):
        # Unsigned positions: numba does not look whether they count from the end.
        start = np.uintp(j * line)
        for i in range(np.uintp(line)):
            below = picture[start + np.uintp(line) + i]
            columns[i] = np.float32(above[i]) + np.float32(here[i]) + np.float32(below)
        first, last = 3, line - 3
        if len(spans) > 1:
            first, last = spans[j, 0] + 3 - j * line, spans[j, 1] - 3 - j * line
        for i in range(np.uintp(first), np.uintp(max(first, last))):
            # Sums of whole numbers are exact. A thirteenth is never half way between two levels.
            level = np.float32(here[i])
            total = columns[i - np.uintp(3)] + columns[i] + columns[i + np.uintp(3)]
            mean = np.floor((total + _FOUR * level) * _THIRTEENTH + _HALF)
            picture[start + i] = _cut_off(level + (mean - level) * rest)
        for i in range(np.uintp(line)):
            above[i] = here[i]
            here[i] = picture[start + np.uintp(line) + i]


@kernel
def _stretch(picture, spans):
    """Auto contrast: the lowest level of a channel becomes 0, and the highest one 255."""
    lowest, highest = np.full(_PERIOD, 255, np.uint8), np.zeros(_PERIOD, np.uint8)
    for s in range(len(spans)):
        row = picture[spans[s, 0] : spans[s, 1]]
        full = len(row) // _PERIOD * _PERIOD
        for at in range(0, full, _PERIOD):
            for i in range(_PERIOD):
                lowest[i] = min(lowest[i], row[at + i])
                highest[i] = max(highest[i], row[at + i])
        for i in range(len(row) - full):
            lowest[i] = min(lowest[i], row[full + i])
            highest[i] = max(highest[i], row[full + i])
    lows, scales = np.empty(_PERIOD, np.float32), np.empty(_PERIOD, np.float32)
    for c in range(3):
        first, last = _MOST, _ZERO
        for i in range(c, _PERIOD, 3):
            first = min(first, np.float32(lowest[i]))
            last = max(last, np.float32(highest[i]))
        if first >= last:
            first, last = _ZERO, _MOST
        for i in range(c, _PERIOD, 3):
            lows[i], scales[i] = first, (last - first) * _UNIT
    for s in range(len(spans)):
        row = picture[spans[s, 0] : spans[s, 1]]
        full = len(row) // _PERIOD * _PERIOD
        for at in range(0, full, _PERIOD):
            for i in range(_PERIOD):
                row[at + i] = _cut_off((np.float32(row[at + i]) - lows[i]) / scales[i])
        for i in range(len(row) - full):
            row[full + i] = _cut_off((np.float32(row[full + i]) - lows[i]) / scales[i])


@kernel
def _equalize(picture, spans):
    """Histogram equalization as in Pillow. A channel of nearly one level stays."""
    # Counts of every second pixel each, so that a count is rarely needed before it was written.
    counts, sums = np.zeros((2, 3, 256), np.int32), np.empty(256, np.float64)
    table = np.empty((3, 256), np.uint8)
    for s in range(len(spans)):
        row = picture[spans[s, 0] : spans[s, 1]].reshape(-1, 3)
        for at in range(0, len(row) - 1, 2):
            for c in range(3):
                counts[0, c, row[at, c]] += 1
                counts[1, c, row[at + 1, c]] += 1
        if len(row) % 2:
            for c in range(3):
                counts[0, c, row[len(row) - 1, c]] += 1
    for c in range(3):
        total, high = np.int64(0), 0
        for level in range(256):
            counts[0, c, level] += counts[1, c, level]
            total += counts[0, c, level]
            if counts[0, c, level]:
                high = level
        step = (total - counts[0, c, high]) // 255
        total = step // 2
        for level in range(256):
            sums[level] = total
            total += counts[0, c, level]
        for level in range(256):
            # Exact: the quotient is far from the next whole number.
            table[c, level] = min(int(sums[level] / step), 255) if step > 0 else level
    for s in range(len(spans)):
        row = picture[spans[s, 0] : spans[s, 1]].reshape(-1, 3)
        for at in range(len(row)):
            for c in range(3):
                row[at, c] = table[c, row[at, c]]
