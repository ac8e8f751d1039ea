"""The kernel for shear and rotation of what is inside `clip`. Compiled by numba.

In: uint8 pixels, an affine map from output points to stored points, a color map. Out: the same rows
as `warp` gives with `cut`. The position moves by a constant step along a row, and the pixels of a
row that are outside the image are found without looking at each. This takes a quarter of the time.
"""

from __future__ import annotations

import numpy as np

from slipform.pipelines.kernel import kernel
from slipform.pipelines.rendering.resample import (
    BFLOAT16,
    FLOAT16,
    FLOAT32,
    color_columns,
    copy_row,
    resample,
)
from slipform.pipelines.rendering.taps import ZERO
from slipform.pipelines.simd import (
    blue,
    green,
    halves,
    load8,
    load_pixels,
    mul_add,
    pair_sums,
    red,
    store_bfloat16,
    store_float16,
    store_float32,
    store_levels,
    zeros,
)

__all__ = ["affine"]

# Black pixels around the reduced image: taps are at most one pixel outside, and one more after the
# last pixel of a row, as pixels are sampled in pairs.
_FRAME = 3
_BITS, _FRACTION = 32, np.float32(2.0**-32)  # positions are whole numbers of 2**-32 pixels


@kernel(fastmath={"contract", "nsz"})
def affine(image, matrix, clip, reduced, color, size, kind, out32, out16, base, scratch):
    """Sample one image at size x size points, and write the pixels to out[base:].

    Args:
        image: uint8 [H, W * 3].
        matrix: float32 [3, 3], output point -> stored point; the last row is (0, 0, 1).
        clip: int32 [4] (x0, y0, x1, y1), the image. What is outside is black.
        reduced: (height, width) to which the image is reduced before it is sampled.
        color: float32 [3, 4], as in `Plan`.
        size: Side of the output in pixels.
        kind: FLOAT32, BFLOAT16, FLOAT16 or LEVELS of `resample`.
        out32: Output of kind FLOAT32: float32, flat.
        out16: Output of the other kinds, as bits: uint16, flat.
        base: Position of the first row in the output.
        scratch: Memory for the reduced image, float32.

    Returns:
        `scratch`, or a larger array if it was too small.
    """
    height, width = reduced
    small, m = _reduced(image, matrix, clip, height, width, scratch)
    stride = (width + 2 * _FRAME) * 3
    columns = color_columns(color)
    from_red, from_green, from_blue, offset = (
        load8(columns, 0),
        load8(columns, 8),
        load8(columns, 16),
        load8(columns, 24),
    )
    one, unit = np.float32(1.0), 2.0**_BITS
    step_x, step_y = np.int64(np.rint(m[0, 0] * unit)), np.int64(np.rint(m[1, 0] * unit))
    row32, row16 = np.empty(3 * size + 16, np.float32), np.empty(3 * size + 16, np.uint16)
    black32, black16 = np.empty(3 * size + 16, np.float32), np.empty(3 * size + 16, np.uint16)
    for i in range(0, size, 2):
        if kind == FLOAT32:
            store_float32(black32, 3 * i, 3 * i + 3, offset)
        elif kind == BFLOAT16:
            store_bfloat16(black16, 3 * i, 3 * i + 3, offset)
        elif kind == FLOAT16:
            store_float16(black16, 3 * i, 3 * i + 3, offset)
        else:
            store_levels(black16, 3 * i, 3 * i + 3, offset)
    for j in range(size):
        left = m[0, 0] * 0.5 + m[0, 1] * (j + 0.5) + m[0, 2] - 0.5
        top = m[1, 0] * 0.5 + m[1, 1] * (j + 0.5) + m[1, 2] - 0.5
        begin, end = _inside(left, m[0, 0], width, 0, size)
        begin, end = _inside(top, m[1, 0], height, begin, end)
        x, y = np.int64(np.rint(left * unit)), np.int64(np.rint(top * unit))
        x, y = x + begin * step_x, y + begin * step_y
        for i in range(begin, end, 2):
            at_a = ((y >> _BITS) + _FRAME) * stride + ((x >> _BITS) + _FRAME) * 3
            fx_a, fy_a = _fraction(x), _fraction(y)
            x, y = x + step_x, y + step_y
            at_b = ((y >> _BITS) + _FRAME) * stride + ((x >> _BITS) + _FRAME) * 3
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
            pixel = mul_add(
                from_red,
                red(pixel),
                mul_add(from_green, green(pixel), mul_add(from_blue, blue(pixel), offset)),
            )
            if kind == FLOAT32:
                store_float32(row32, 3 * i, 3 * i + 3, pixel)
            elif kind == BFLOAT16:
                store_bfloat16(row16, 3 * i, 3 * i + 3, pixel)
            elif kind == FLOAT16:
                store_float16(row16, 3 * i, 3 * i + 3, pixel)
            else:
                store_levels(row16, 3 * i, 3 * i + 3, pixel)
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
    begin = max(begin, int(np.ceil(max(first, -1.0))))
    return begin, max(begin, min(end, int(np.floor(min(last, 1e6))) + 1))


@kernel
def _reduced(image, matrix, box, height, width, scratch):
    """Reduce a box (x0, y0, x1, y1) of the image.

    Returns the float32 pixels in a black frame, and the map from output points to points of the
    reduced image.
    """
    m = matrix.astype(np.float64)
    m[0, 2] -= box[0]
    m[1, 2] -= box[1]
    stored_height, stored_width = box[3] - box[1], box[2] - box[0]
    stride = (width + 2 * _FRAME) * 3
    length = (height + 2 * _FRAME) * stride + 8
    small = scratch if len(scratch) >= length else np.empty(length, np.float32)
    identity = np.zeros((3, 4), np.float32)
    identity[0, 0] = identity[1, 1] = identity[2, 2] = 1.0
    none = np.empty(0, np.uint16)
    dx, dy = stored_width / width, stored_height / height
    begin = _FRAME * stride + _FRAME * 3
    if dx == 1 and dy == 1:
        for j in range(height):
            source = image[box[1] + j, 3 * box[0] : 3 * box[2]]
            target = small[begin + j * stride : begin + j * stride + 3 * width]
            for i in range(len(target)):
                target[i] = source[i]
    else:
        resample(
            image, float(box[0]), dx, width, float(box[1]), dy, height,
            box, ZERO, identity, FLOAT32, small, none, begin, stride,
        )  # fmt: skip
    # Storing a pixel overwrote one lane to its right, which is a part of the frame.
    small[: _FRAME * stride] = 0
    small[(height + _FRAME) * stride : length] = 0
    for j in range(_FRAME, height + _FRAME):
        small[j * stride : j * stride + _FRAME * 3] = 0
        small[(j + 1) * stride - _FRAME * 3 : (j + 1) * stride] = 0
    m[0] /= dx
    m[1] /= dy
    return small, m
