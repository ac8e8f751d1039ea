"""Pictures -> input of the net. Compiled by numba.

In: the pictures of the chains of a sample, of whole levels, or one picture of float32 values; a
color map, a blur. Out: the weighted sum, blurred and colored, in each kind of output.
"""

from __future__ import annotations

import numpy as np

from slipform.pipelines.kernel import kernel
from slipform.pipelines.rendering.blur import blur
from slipform.pipelines.rendering.output import color_columns, colored, copy_row, loaded
from slipform.pipelines.simd import load8, load_pixels, mul_add
from slipform.pipelines.stores import store, store8

__all__ = ["SLACK", "buffers", "finish", "finish_values"]

SLACK = 8  # values behind a picture that the kernels may overwrite
_BLOCK = 1536  # values that are colored at once: they stay in the cache of the core
_PERIOD = 24  # values after which the channels of vectors repeat


@kernel
def finish(
    pictures, weights, values, sigma, radius, color, size, memory, kind, out32, out16, base
):  # fmt: skip
    """Add the pictures of a sample, blur, map colors, and write the pixels to out[base:].

    Args:
        pictures: uint8 [C, size * size * 3 or more], levels.
        weights: float32 [C]. Not read if there is one picture.
        values: Scratch memory for the blur, as for `finish_values`.
        sigma: The deviation of the blur in pixels. 0: there is none.
        radius: As for `blur`.
        color: float32 [3, 4], as in `Plan`.
        size: Side of the pictures in pixels.
        memory: From `buffers`.
        kind, out32, out16, base: As for `resample`.
    """
    count = 3 * size * size
    if sigma > 0:
        _add(pictures, weights, 0, count, values[0])
        finish_values(values, sigma, radius, color, size, memory, kind, out32, out16, base)
        return
    row, colors = memory[0], _colors(color)
    for begin in range(0, count, _BLOCK):
        end = min(begin + _BLOCK, count)
        _add(pictures, weights, begin, end, row)
        _write(row, end - begin, colors, memory, kind, out32, out16, base + begin)


@kernel
def finish_values(values, sigma, radius, color, size, memory, kind, out32, out16, base):
    """Blur one picture of float32 values, map its colors, and write the pixels to out[base:].

    Args:
        values: float32 [2, size * size * 3]: the picture, and scratch memory. Both are changed.
        sigma, radius, color, size, memory, kind, out32, out16, base: As for `finish`.
    """
    blur(values[0], values[1], size, sigma, radius)
    row, colors = memory[0], _colors(color)
    for begin in range(0, 3 * size * size, _BLOCK):
        end = min(begin + _BLOCK, 3 * size * size)
        row[: end - begin] = values[1, begin:end]
        _write(row, end - begin, colors, memory, kind, out32, out16, base + begin)


@kernel
def _add(pictures, weights, begin, end, row):
    """row = the weighted sum of a span of the pictures. Products and sums are rounded apart."""
    first = pictures[0, begin:end]
    if len(pictures) == 1:
        for at in range(len(first)):
            row[at] = first[at]
        return
    weight = weights[0]
    for at in range(len(first)):
        row[at] = np.float32(first[at]) * weight
    for c in range(1, len(pictures)):
        more, weight = pictures[c, begin:end], weights[c]
        for at in range(len(more)):
            row[at] += np.float32(more[at]) * weight


@kernel
def buffers():
    """Memory for `finish`: a row of values, and rows of each kind of output."""
    row, row32 = np.zeros(_BLOCK + SLACK, np.float32), np.empty(_BLOCK + SLACK, np.float32)
    return row, row32, np.empty(_BLOCK + SLACK, np.uint16)


@kernel
def _colors(color):
    """A color map in the forms of `_write`: whether each channel depends on itself alone; factors
    and offsets along a row; columns for pairs of pixels."""
    factors, offsets = np.empty(_PERIOD, np.float32), np.empty(_PERIOD, np.float32)
    apart = True
    for c in range(3):
        apart &= color[c, (c + 1) % 3] == 0 and color[c, (c + 2) % 3] == 0
        for i in range(c, _PERIOD, 3):
            factors[i], offsets[i] = color[c, c], color[c, 3]
    return apart, factors, offsets, color_columns(color)


@kernel
def _write(row, count, colors, memory, kind, out32, out16, at):
    """Map the colors of a span of `count` values, and write them to out[at:]."""
    apart, factors, offsets, columns = colors
    _, row32, row16 = memory
    full = 0
    if apart:
        full = count // _PERIOD * _PERIOD
        _scale(row, full, factors, offsets, kind, out32, out16, at)
    if full < count:
        _color(row, full, columns, count - full, kind, row32, row16)
        copy_row(kind, row32, row16, out32, out16, at + full, count - full)


@kernel
def _scale(row, count, factors, offsets, kind, out32, out16, begin):
    """Map colors where each channel depends on itself alone."""
    a, b, c = load8(factors, 0), load8(factors, 8), load8(factors, 16)
    x, y, z = load8(offsets, 0), load8(offsets, 8), load8(offsets, 16)
    for at in range(0, count, _PERIOD):
        to = begin + at
        store8(kind, out32, out16, to, mul_add(load8(row, at), a, x))
        store8(kind, out32, out16, to + 8, mul_add(load8(row, at + 8), b, y))
        store8(kind, out32, out16, to + 16, mul_add(load8(row, at + 16), c, z))


@kernel(fastmath={"contract", "nsz"})
def _color(row, begin, columns, count, kind, row32, row16):
    """Map colors that depend on all channels, a pair of pixels at a time, from row[begin] on."""
    columns = loaded(columns)
    for i in range(0, count, 6):
        at = begin + i
        store(kind, row32, row16, i, colored(load_pixels(row, at, at + 3), columns))
