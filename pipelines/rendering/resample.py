"""The resampling kernel: a box of stored pixels, perhaps mirrored -> colored output rows.

Compiled by numba.

In: uint8 pixels, the positions of the output pixels in them, a color map. Out: float32, bfloat16 or
float16 rows.

The filter is separable. First a row is blended from stored rows, which numba vectorizes along the
row. Then pairs of output pixels are blended from that row, multiplied by the color matrix and
stored, two pixels per AVX register (`simd.py`). Random boxes of 160 x 160 on average took 78 to 92
microseconds to 224 x 224 in float32, on one core of an EPYC (Zen 4), including any color matrix.
cv2.resize alone, to uint8 and without colors, took 73.
"""

from __future__ import annotations

import numpy as np

from slipform.pipelines.kernel import kernel
from slipform.pipelines.rendering.output import color_columns, colored, copy_row, loaded
from slipform.pipelines.rendering.taps import axis_taps, num_taps
from slipform.pipelines.simd import halves, load8, load_pixels, maximum, minimum, mul_add, zeros
from slipform.pipelines.stores import store, store8

__all__ = ["resample"]

_MOST = np.float32(255)


@kernel(inline="always")
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
    cubic,
    color,
    kind,
    out32,
    out16,
    base,
    stride,
):
    """Resample one image.

    The center of output pixel (i, j) is the point (x + (i + 0.5) * dx, y + (j + 0.5) * dy) of the
    stored image. Output row j is written to out[base + j * stride :].

    Args:
        image: uint8 [H, W * 3].
        x, y: The point of the stored image where the output begins.
        dx, dy: Stored pixels per output pixel. Negative: mirrored.
        out_width, out_height: Size of the output in pixels.
        clip: int32 [4] (x0, y0, x1, y1), the stored pixels that may be used.
        border: ZERO, REFLECT or EDGE of `taps`.
        cubic: Whether the filter is cubic. Its values are cut off to 0..255.
        color: float32 [3, 4], as in `Plan`. None: the pixels stay as they are, and up to 4 values
            behind the output may be overwritten.
        kind: FLOAT32, BFLOAT16, FLOAT16 or LEVELS of `stores`.
        out32: Output of kind FLOAT32: float32, flat.
        out16: Output of the other kinds: uint16, the bits of floats, or uint8 of kind LEVELS, flat.
            None: the kind is FLOAT32, and a pixel has four values (r, g, b, any).
        base: Position of the first row in the output.
        stride: Distance of rows in the output.
    """
    if cubic:
        _resample(
            image, x, dx, out_width, y, dy, out_height, clip, border, _MOST, color, kind, out32,
            out16, base, stride,
        )  # fmt: skip
    else:
        _resample(
            image, x, dx, out_width, y, dy, out_height, clip, border, None, color, kind, out32,
            out16, base, stride,
        )  # fmt: skip


@kernel(fastmath={"contract", "nsz"})
def _resample(
    image, x, dx, out_width, y, dy, out_height, clip, border, limit, color, kind, out32, out16,
    base, stride,
):  # fmt: skip
    """Resample one image: see `resample`.

    Args:
        limit: None: the filter is a triangle. Otherwise it is cubic, and its values are cut off to
            0..limit. The type of this argument gives each filter a kernel of its own: a branch in
            the innermost loop, or limits for both filters, made it 5 % slower.
    """
    cubic = limit is not None
    taps_y = num_taps(dy, y, clip[1], clip[3], cubic)
    taps_x = num_taps(dx, x, clip[0], clip[2], cubic)
    pairs = (out_width + 1) // 2
    first_y, weight_y = np.empty(out_height, np.int64), np.empty((out_height, taps_y), np.float32)
    first_x, weight_x = np.zeros(2 * pairs, np.int64), np.zeros((2 * pairs, taps_x), np.float32)
    axis_taps(y, dy, clip[1], clip[3], border, limit, first_y, weight_y, out_height)
    axis_taps(x, dx, clip[0], clip[2], border, limit, first_x, weight_x, out_width)
    # The columns that any output pixel needs, as positions in a row of 3 * W bytes.
    left, right = first_x[0], first_x[0]
    for j in range(out_width):
        left, right = min(left, first_x[j]), max(right, first_x[j])
    left, right = 3 * left, 3 * (right + taps_x)
    width = right - left
    lanes = np.empty(pairs * taps_x * 8, np.float32)  # each weight four times: once per lane
    for j in range(2 * pairs):
        first_x[j] = max(3 * first_x[j] - left, 0)
        for k in range(taps_x):
            at = ((j // 2) * taps_x + k) * 8 + (j % 2) * 4
            lanes[at] = lanes[at + 1] = lanes[at + 2] = lanes[at + 3] = weight_x[j, k]
    row = np.zeros(width + 8, np.float32)
    if color is not None:
        columns = loaded(color_columns(color))
        last32, last16 = np.empty(6 * pairs + 8, np.float32), np.empty(6 * pairs + 8, np.uint16)
    for j in range(out_height):
        _blend_rows(image, first_y[j], weight_y[j], left, width, row)
        to32, to16, at = out32, out16, base + j * stride
        if color is not None and j == out_height - 1:
            # Storing a pixel overwrites one lane to its right, which is written next. The last row
            # is written to a buffer and copied.
            to32, to16, at = last32, last16, 0
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
            if limit is not None:
                pixel = minimum(maximum(pixel, zeros()), halves(limit, limit))
            if color is not None:
                pixel = colored(pixel, columns)
            if out16 is None:
                store8(kind, to32, to16, at + 8 * pair, pixel)
            else:
                store(kind, to32, to16, at + 6 * pair, pixel)
    if color is not None:
        last = base + (out_height - 1) * stride
        copy_row(kind, last32, last16, out32, out16, last, out_width * 3)


@kernel(fastmath={"contract", "nsz"})
def _blend_rows(image, first, weights, left, width, row):
    """row[:width] = the weighted sum of stored rows first, first + 1, ..., from byte `left` on."""
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
