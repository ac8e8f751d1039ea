"""The kernel for shear and rotation of what is inside `clip`. Compiled by numba.

In: uint8 pixels, an affine map from output points to stored points, a color map. Out: the same rows
as `warp` gives with `cut`. The position moves by a constant step along a row, and the pixels of a
row that are outside the image are found without looking at each. This takes a quarter of the time.
"""

from __future__ import annotations

import numpy as np

from slipform.pipelines.kernel import kernel
from slipform.pipelines.rendering.output import color_columns, colored, copy_row, loaded
from slipform.pipelines.rendering.reduce import moved_to, reduce
from slipform.pipelines.simd import halves, load_pixels, mul_add, pair_sums, zeros
from slipform.pipelines.stores import FLOAT32, store

__all__ = ["affine"]

_BITS, _FRACTION = 32, np.float32(2.0**-32)  # positions are whole numbers of 2**-32 pixels


@kernel(fastmath={"contract", "nsz"})
def affine(image, matrix, clip, reduced, cubic, color, size, kind, out32, out16, base, scratch):
    """Sample one image at size x size points, and write the pixels to out[base:].

    Args:
        image: uint8 [H, W * 3].
        matrix: [3, 3], output point -> stored point; the last row is (0, 0, 1).
        clip: int32 [4] (x0, y0, x1, y1), the image. What is outside is black.
        reduced: (height, width) to which the image is reduced before it is sampled.
        cubic: Whether the filter of this is cubic.
        color: float32 [3, 4], as in `Plan`.
        size: Side of the output in pixels.
        kind: FLOAT32, BFLOAT16, FLOAT16 or LEVELS of `stores`.
        out32: Output of kind FLOAT32: float32, flat.
        out16: Output of the other kinds, as bits: uint16, flat.
        base: Position of the first row in the output.
        scratch: Memory for the reduced image, float32.

    Returns:
        `scratch`, or a larger array if it was too small.
    """
    height, width = reduced
    m = moved_to(matrix, clip, height, width)
    # Taps are at most one pixel outside. Pixels are sampled in pairs, so the second one of a pair
    # may be one step farther.
    frame = 2 + int(np.ceil(max(abs(m[0, 0]), abs(m[1, 0]))))
    small = reduce(image, clip, height, width, cubic, frame, scratch)
    stride = (width + 2 * frame) * 3
    columns = loaded(color_columns(color))
    one, unit = np.float32(1.0), 2.0**_BITS
    step_x, step_y = np.int64(np.rint(m[0, 0] * unit)), np.int64(np.rint(m[1, 0] * unit))
    row32, row16 = np.empty(3 * size + 16, np.float32), np.empty(3 * size + 16, np.uint16)
    black32, black16 = np.empty(3 * size + 16, np.float32), np.empty(3 * size + 16, np.uint16)
    for i in range(0, size, 2):
        store(kind, black32, black16, 3 * i, columns[3])
    for j in range(size):
        left = m[0, 0] * 0.5 + m[0, 1] * (j + 0.5) + m[0, 2] - 0.5
        top = m[1, 0] * 0.5 + m[1, 1] * (j + 0.5) + m[1, 2] - 0.5
        begin, end = _inside(left, m[0, 0], width, 0, size)
        begin, end = _inside(top, m[1, 0], height, begin, end)
        x, y = np.int64(np.rint(left * unit)), np.int64(np.rint(top * unit))
        x, y = x + begin * step_x, y + begin * step_y
        for i in range(begin, end, 2):
            at_a = ((y >> _BITS) + frame) * stride + ((x >> _BITS) + frame) * 3
            fx_a, fy_a = _fraction(x), _fraction(y)
            x, y = x + step_x, y + step_y
            at_b = ((y >> _BITS) + frame) * stride + ((x >> _BITS) + frame) * 3
            fx_b, fy_b = _fraction(x), _fraction(y)
            x, y = x + step_x, y + step_y
            a = mul_add(load_pixels(small, at_a, at_a + 3), halves(one - fy_a, one - fy_a), zeros())
            a = mul_add(load_pixels(small, at_a + stride, at_a + stride + 3), halves(fy_a, fy_a), a)
            b = mul_add(load_pixels(small, at_b, at_b + 3), halves(one - fy_b, one - fy_b), zeros())
            b = mul_add(load_pixels(small, at_b + stride, at_b + stride + 3), halves(fy_b, fy_b), b)
            pixel = pair_sums(
                mul_add(a, halves(one - fx_a, fx_a), zeros()),
                mul_add(b, halves(one - fx_b, fx_b), zeros()),
            )
            store(kind, row32, row16, 3 * i, colored(pixel, columns))
        if kind == FLOAT32:
            row32[: 3 * begin] = black32[: 3 * begin]
            row32[3 * end : 3 * size] = black32[3 * end : 3 * size]
        else:
            row16[: 3 * begin] = black16[: 3 * begin]
            row16[3 * end : 3 * size] = black16[3 * end : 3 * size]
        copy_row(kind, row32, row16, out32, out16, base + j * size * 3, size * 3)
    return small


@kernel
def _fraction(position):
    """The part of a position after the point, float32."""
    return np.float32(np.uint32(position & 0xFFFFFFFF)) * _FRACTION


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
