"""The separable resampling kernel: a box of stored pixels, perhaps mirrored -> colored output
rows; numba.

In: uint8 pixels, where output pixels are centerd in them, a color map. Out: float32, bfloat16 or
float16 rows.

Each output row is first blended from stored rows (numba vectorizes that over the row); then each
pair of output pixels is blended from that row's pixels, multiplied by the color matrix and stored:
two pixels per AVX register (`simd.py`). From random boxes of 160 x 160 on average to 224 x 224 in
float32 this took 78 to 92 microseconds of one core of an EPYC (Zen 4), any color matrix included;
cv2.resize alone, to uint8 and without colors, took 73.
"""

from __future__ import annotations

import numpy as np

from slipform.pipelines.kernel import kernel
from slipform.pipelines.rendering.simd import (
    blue,
    green,
    load8,
    load_pixels,
    mul_add,
    red,
    store_bfloat16,
    store_float16,
    store_float32,
    zeros,
)
from slipform.pipelines.rendering.taps import axis_taps, num_taps

FLOAT32, BFLOAT16, FLOAT16 = 0, 1, 2


@kernel(fastmath={"contract", "nsz"})
def resample(
    image,
    x,
    dx,
    out_width,
    y,
    dy,
    out_height,
    clip,
    border,
    color,
    kind,
    out32,
    out16,
    base,
    stride,
):
    """Map uint8 [H, W * 3] to out_height x out_width pixels; row j goes to out[base + j * stride:].

    Pixel (i, j) is centerd at (x + (i + 0.5) * dx, y + (j + 0.5) * dy) of the stored image. The
    other arguments: `render`.
    """
    taps_y, taps_x = num_taps(dy, y, clip[1], clip[3]), num_taps(dx, x, clip[0], clip[2])
    pairs = (out_width + 1) // 2
    first_y, weight_y = np.empty(out_height, np.int64), np.empty((out_height, taps_y), np.float32)
    first_x, weight_x = np.zeros(2 * pairs, np.int64), np.zeros((2 * pairs, taps_x), np.float32)
    axis_taps(y, dy, clip[1], clip[3], border, first_y, weight_y, out_height)
    axis_taps(x, dx, clip[0], clip[2], border, first_x, weight_x, out_width)
    # The columns that any output pixel needs, as positions in a row of 3 * W bytes.
    left, right = first_x[0], first_x[0]
    for j in range(out_width):
        left, right = min(left, first_x[j]), max(right, first_x[j])
    left, right = 3 * left, 3 * (right + taps_x)
    width = right - left
    lanes = np.empty(pairs * taps_x * 8, np.float32)  # each weight four times: the lanes of a pixel
    for j in range(2 * pairs):
        first_x[j] = max(3 * first_x[j] - left, 0)
        for k in range(taps_x):
            at = ((j // 2) * taps_x + k) * 8 + (j % 2) * 4
            lanes[at] = lanes[at + 1] = lanes[at + 2] = lanes[at + 3] = weight_x[j, k]
    columns = color_columns(color)
    from_red, from_green, from_blue, offset = (
        load8(columns, 0),
        load8(columns, 8),
        load8(columns, 16),
        load8(columns, 24),
    )
    row = np.zeros(width + 8, np.float32)
    last32, last16 = np.empty(6 * pairs + 8, np.float32), np.empty(6 * pairs + 8, np.uint16)
    for j in range(out_height):
        _blend_rows(image, first_y[j], weight_y[j], left, width, row)
        # A stored pixel spills one lane to the right, into what is written next; the last row goes
        # through a buffer.
        last = j == out_height - 1
        to32, to16, at = (last32, last16, 0) if last else (out32, out16, base + j * stride)
        for pair in range(pairs):
            a, b, lane = first_x[2 * pair], first_x[2 * pair + 1], pair * taps_x * 8
            pixel = mul_add(load_pixels(row, a, b), load8(lanes, lane), zeros())
            if taps_x == 2:
                pixel = mul_add(load_pixels(row, a + 3, b + 3), load8(lanes, lane + 8), pixel)
            else:
                for k in range(1, taps_x):
                    pixel = mul_add(
                        load_pixels(row, a + 3 * k, b + 3 * k), load8(lanes, lane + 8 * k), pixel
                    )
            pixel = mul_add(
                from_red,
                red(pixel),
                mul_add(from_green, green(pixel), mul_add(from_blue, blue(pixel), offset)),
            )
            # Written out here and in `warp`: as a function of its own this made the whole loop 4
            # times slower.
            if kind == FLOAT32:
                store_float32(to32, at + 6 * pair, at + 6 * pair + 3, pixel)
            elif kind == BFLOAT16:
                store_bfloat16(to16, at + 6 * pair, at + 6 * pair + 3, pixel)
            else:
                store_float16(to16, at + 6 * pair, at + 6 * pair + 3, pixel)
    copy_row(kind, last32, last16, out32, out16, base + (out_height - 1) * stride, out_width * 3)


@kernel(fastmath={"contract", "nsz"})
def _blend_rows(image, first, weights, left, width, row):
    """row[:width] = the weighted sum of stored rows first, first + 1, ... from byte `left` on."""
    top = image[first, left : left + width]
    if len(weights) == 1:
        for i in range(width):
            row[i] = np.float32(top[i]) * weights[0]
        return
    below = image[first + 1, left : left + width]
    for i in range(width):
        row[i] = np.float32(top[i]) * weights[0] + np.float32(below[i]) * weights[1]
    for k in range(2, len(weights)):
        if weights[k] != 0:
            more = image[first + k, left : left + width]
            for i in range(width):
                row[i] += np.float32(more[i]) * weights[k]


@kernel
def color_columns(color):
    """float32 [32]: the color map's four columns, each twice in four lanes, the fourth lane 0."""
    columns = np.zeros(32, np.float32)
    for k in range(4):
        for c in range(3):
            columns[k * 8 + c] = columns[k * 8 + 4 + c] = color[c, k]
    return columns


@kernel
def copy_row(kind, row32, row16, out32, out16, begin, count):
    if kind == FLOAT32:
        out32[begin : begin + count] = row32[:count]
    else:
        out16[begin : begin + count] = row16[:count]
