"""The kernel for shear and rotation of what is inside `clip`. Compiled by numba.

In: a reduced image in a black frame, an affine map from output points to its points, a color map.
Out: the same rows as `warp` gives with `cut`. The position moves by a constant step along a row, so
numba vectorizes the positions, and the pixels of a row that are outside the image are found without
looking at each.
"""

from __future__ import annotations

import numpy as np

from slipform.pipelines.kernel import kernel
from slipform.pipelines.rendering.output import color_columns, colored, loaded
from slipform.pipelines.rendering.reduce import moved_to
from slipform.pipelines.simd import halves, load8, mul_add, pair_sums, zeros
from slipform.pipelines.stores import FLOAT32, store

__all__ = ["affine", "frame_for"]

_BITS, _FRACTION = 32, np.float32(2.0**-32)  # positions are whole numbers of 2**-32 pixels
_ONE = np.float32(1)


@kernel
def frame_for(matrix, clip, height, width):
    """The width in pixels of the frame that `affine` needs around the reduced image.

    Taps are at most one pixel outside. Pixels are sampled in pairs, so the second one of a pair may
    be one step farther.

    Args:
        matrix: [3, 3], output point -> stored point; the last row is (0, 0, 1).
        clip: int32 [4] (x0, y0, x1, y1), the image.
        height, width: The size to which it is reduced, in pixels.
    """
    m = moved_to(matrix, clip, height, width)
    return 2 + int(np.ceil(max(abs(m[0, 0]), abs(m[1, 0]))))


@kernel(fastmath={"contract", "nsz"})
def affine(small, frame, matrix, clip, height, width, color, size, kind, out32, out16, base):
    """Sample a reduced image at size x size points, and write the pixels to out[base:].

    Args:
        small: float32, flat, the reduced image as from `reduce`. What is outside it is black.
        frame: The width of its frame, at least `frame_for`.
        matrix: [3, 3], output point -> stored point; the last row is (0, 0, 1).
        clip: int32 [4] (x0, y0, x1, y1), the stored pixels that were reduced.
        height, width: The size to which they were reduced.
        color, size, kind, out32, out16, base: As for `warp`.
    """
    m = moved_to(matrix, clip, height, width)
    stride = (width + 2 * frame) * 4
    unit = 2.0**_BITS
    step_x, step_y = np.int64(np.rint(m[0, 0] * unit)), np.int64(np.rint(m[1, 0] * unit))
    row32, row16 = np.empty(3 * size + 16, np.float32), np.empty(3 * size + 16, out16.dtype)
    black32, black16 = np.zeros(3 * size + 16, np.float32), np.zeros(3 * size + 16, out16.dtype)
    if color is not None:
        columns = loaded(color_columns(color))
        for i in range(0, size, 2):
            store(kind, black32, black16, 3 * i, columns[3])
    taps = np.empty(size + 8, np.int32)
    parts_x, parts_y = np.empty(2 * size + 8, np.float32), np.empty(2 * size + 8, np.float32)
    for j in range(size):
        left = m[0, 0] * 0.5 + m[0, 1] * (j + 0.5) + m[0, 2] - 0.5
        top = m[1, 0] * 0.5 + m[1, 1] * (j + 0.5) + m[1, 2] - 0.5
        begin, end = _inside(left, m[0, 0], width, 0, size)
        begin, end = _inside(top, m[1, 0], height, begin, end)
        x, y = np.int64(np.rint(left * unit)), np.int64(np.rint(top * unit))
        x, y = x + begin * step_x, y + begin * step_y
        _locate(x, y, step_x, step_y, frame, stride, end - begin + 1, taps, parts_x, parts_y)
        for i in range(0, end - begin, 2):
            at_a, at_b = taps[i], taps[i + 1]
            k = 2 * i
            a = mul_add(load8(small, at_a), halves(parts_y[k], parts_y[k]), zeros())
            a = mul_add(load8(small, at_a + stride), halves(parts_y[k + 1], parts_y[k + 1]), a)
            b = mul_add(load8(small, at_b), halves(parts_y[k + 2], parts_y[k + 2]), zeros())
            b = mul_add(load8(small, at_b + stride), halves(parts_y[k + 3], parts_y[k + 3]), b)
            pixel = pair_sums(
                mul_add(a, halves(parts_x[k], parts_x[k + 1]), zeros()),
                mul_add(b, halves(parts_x[k + 2], parts_x[k + 3]), zeros()),
            )
            if color is not None:
                pixel = colored(pixel, columns)
            store(kind, row32, row16, 3 * (begin + i), pixel)
        if kind == FLOAT32:
            _join(
                row32, black32, 3 * begin, 3 * end, out32, np.uintp(base + j * size * 3), 3 * size
            )
        else:
            _join(
                row16, black16, 3 * begin, 3 * end, out16, np.uintp(base + j * size * 3), 3 * size
            )


@kernel
def _locate(x, y, step_x, step_y, frame, stride, count, taps, parts_x, parts_y):
    """The positions of the upper left taps of a row of output pixels in the framed image, and the
    weights (x, y) of both taps of each, float32."""
    for i in range(count):
        at_x, at_y = x + i * step_x, y + i * step_y
        row, column = np.int32(at_y >> _BITS) + frame, np.int32(at_x >> _BITS) + frame
        taps[i] = row * stride + column * 4
        part_x = np.float32(np.uint32(at_x & 0xFFFFFFFF)) * _FRACTION
        part_y = np.float32(np.uint32(at_y & 0xFFFFFFFF)) * _FRACTION
        parts_x[2 * i], parts_x[2 * i + 1] = _ONE - part_x, part_x
        parts_y[2 * i], parts_y[2 * i + 1] = _ONE - part_y, part_y


@kernel
def _join(row, black, begin, end, out, base, count):
    """Copy begin..end - 1 of a row to out[base:], and black values on both sides of it. Without
    slices, whose counts of references took longer than the values of a small image."""
    for i in range(np.uintp(count)):
        out[base + i] = row[i]
    for i in range(np.uintp(min(begin, count))):
        out[base + i] = black[i]
    for i in range(np.uintp(min(end, count)), np.uintp(count)):
        out[base + i] = black[i]


@kernel
def _inside(start, step, length, begin, end):
    """The outputs i in begin..end - 1 for which start + i * step is between -1 and length, where
    any tap has pixels: (first, last + 1)."""
    if step == 0:
        return (begin, end) if -1 < start < length else (begin, begin)
    first, last = (-1 - start) / step, (length - start) / step
    if step < 0:
        first, last = last, first
    # The limits keep whole numbers small if `step` is nearly 0.
    begin = max(begin, int(np.ceil(min(max(first, -1.0), 1e6))))
    return begin, max(begin, min(end, int(np.floor(max(min(last, 1e6), -1e6))) + 1))
