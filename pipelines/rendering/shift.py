"""The kernel for boxes that are moved by whole pixels and perhaps mirrored. Compiled by numba.

CIFAR's crop with padding and flip is such a box.

In: uint8 pixels, a whole-numbered offset, a color map. Out: the same rows as `resample` gives. This
kernel needs no taps. Computing them takes half of the time of `resample` for an image of 32 px.
"""

from __future__ import annotations

import numpy as np

from slipform.pipelines.kernel import kernel
from slipform.pipelines.rendering.output import color_columns, colored, copy_row, loaded
from slipform.pipelines.rendering.taps import EDGE, ZERO
from slipform.pipelines.simd import load_pixels
from slipform.pipelines.stores import store

__all__ = ["is_shift", "shift"]

_MARGIN = 8  # floats on each side of the row: pairs of pixels may reach beyond its ends


@kernel
def is_shift(x, dx, y, dy):
    """Whether each output pixel is one stored pixel.

    Args:
        x, y: The point of the stored image where the output begins.
        dx, dy: Stored pixels per output pixel. Negative: mirrored.
    """
    return abs(dx) == 1.0 and abs(dy) == 1.0 and x == np.floor(x) and y == np.floor(y)


@kernel(fastmath={"contract", "nsz"})
def shift(image, x, dx, y, dy, size, clip, border, color, kind, out32, out16, base):
    """Copy size x size pixels of one image to out[base:].

    Args:
        image: uint8 [H, W * 3].
        x, y: The point of the stored image where the output begins: whole numbers.
        dx, dy: 1, or -1 if mirrored.
        size: Side of the output in pixels.
        clip, border, color, kind, out32, out16, base: As for `resample`.
    """
    left = int(x) if dx > 0 else int(x) - size
    # Positions begin..end - 1 of a row have stored pixels. The others are outside the image.
    begin = min(max(clip[0] - left, 0), size)
    end = max(min(clip[2] - left, size), begin)
    row = np.zeros(3 * size + 2 * _MARGIN, np.float32)
    inside = row[_MARGIN + 3 * begin : _MARGIN + 3 * end]
    pairs, stride = (size + 1) // 2, 3 * size
    if color is not None:
        columns = loaded(color_columns(color))
        last32, last16 = np.empty(6 * pairs + 8, np.float32), np.empty(6 * pairs + 8, np.uint16)
    first, second, step = (
        (_MARGIN, _MARGIN + 3, 6)
        if dx > 0
        else (_MARGIN + 3 * size - 3, _MARGIN + 3 * size - 6, -6)
    )
    for j in range(size):
        stored = _inside(int(y) + j if dy > 0 else int(y) - 1 - j, clip[1], clip[3], border)
        if stored < 0:
            row[:] = 0
        else:
            source = image[stored, 3 * (left + begin) : 3 * (left + end)]
            for i in range(3 * (end - begin)):
                inside[i] = source[i]
            if border != ZERO:
                for i in range(size):
                    if i < begin or i >= end:
                        column = _inside(left + i, clip[0], clip[2], border)
                        for c in range(3):
                            row[_MARGIN + 3 * i + c] = image[stored, 3 * column + c]
        to32, to16, at = out32, out16, base + j * stride
        if color is not None and j == size - 1:
            # Storing a pixel overwrites one lane to its right, which is written next. The last row
            # is written to a buffer and copied.
            to32, to16, at = last32, last16, 0
        a, b = first, second
        for pair in range(pairs):
            pixel = load_pixels(row, a, b)
            if color is not None:
                pixel = colored(pixel, columns)
            store(kind, to32, to16, at + 6 * pair, pixel)
            a, b = a + step, b + step
    if color is not None:
        copy_row(kind, last32, last16, out32, out16, base + (size - 1) * stride, size * 3)


@kernel
def _inside(position, low, high, border):
    """The stored pixel for a position of an axis, whose pixels are low..high - 1. -1: black."""
    if low <= position < high:
        return position
    if border == ZERO:
        return -1
    if border == EDGE or high - low == 1:
        return min(max(position, low), high - 1)
    period = 2 * (high - low - 1)
    phase = (position - low) % period
    return low + min(phase, period - phase)
