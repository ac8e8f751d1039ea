"""Stored pixels -> the net's input on CPU cores: resample, colour, normalise and round in one pass; numba.

In: addresses of uint8 [H, W, 3] images (mapped betons, decoded JPEGs, resident pixels) and a Plan. Out: [N, S, S, 3] in
float32, bfloat16 or float16. `host` and `resident` share it; `pipelines.plan` says in words what it computes.

Axis-aligned samples are separable. Each output row is first blended from stored rows (numba vectorises this over the row),
then each pair of output pixels from that row's pixels, times the colour matrix, is written: two pixels per AVX register
(`simd.py`). From a box of 170 x 200 to 224 x 224 this took 76 microseconds on one core of an EPYC (Zen 3), any colour
matrix included; cv2.resize alone took 83, a vectorised colour pass 66 more.
"""

from __future__ import annotations

import numpy as np
from numba import carray, njit, types
from numba.extending import intrinsic

from pipelines.executors.simd import (
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
from pipelines.executors.taps import ZERO, axis_taps, num_taps, reduced_size

FLOAT32, BFLOAT16, FLOAT16 = 0, 1, 2


@intrinsic
def _pointer(typing_context, address):  # type: ignore[no-untyped-def]
    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return builder.inttoptr(args[0], context.get_value_type(types.voidptr))

    return types.voidptr(types.int64), codegen


@njit(cache=True, nogil=True, boundscheck=False)
def render(addresses, heights, widths, geometry, color, clip, erase, border, aligned, size, kind, out32, out16, start, stop):  # type: ignore[no-untyped-def]
    """Render samples start..stop-1 of a batch.

    addresses int64 [N] of images heights x widths; geometry [N, 3, 3] and clip [N, 4] in those images' own pixels; erase
    [N, 4] (or [0, 4]); border: taps.ZERO, REFLECT or EDGE; aligned: the whole batch is axis-aligned. out32 float32 or out16
    uint16, flat, N * size * size * 3; kind says which and how 16 bits are meant.
    """
    pixels = size * size * 3
    for i in range(start, stop):
        image = carray(_pointer(addresses[i]), (heights[i], widths[i] * 3), np.uint8)
        matrix = geometry[i]
        if aligned:
            # The first output pixel's left edge lies at matrix[0, 2], each pixel is matrix[0, 0] wide; mirrored: negative.
            x, dx, y, dy = matrix[0, 2], matrix[0, 0], matrix[1, 2], matrix[1, 1]
            _resample(image, x, dx, size, y, dy, size, clip[i], border, color[i], kind, out32, out16, i * pixels)
        else:
            _warp_reduced(image, matrix, border, color[i], size, kind, out32, out16, i * pixels)
        if len(erase):
            for row in range(erase[i, 1], erase[i, 3]):
                at = i * pixels + (row * size + erase[i, 0]) * 3
                end = at + (erase[i, 2] - erase[i, 0]) * 3
                if kind == FLOAT32:
                    out32[at:end] = 0
                else:
                    out16[at:end] = 0


@njit(cache=True, nogil=True, boundscheck=False, fastmath={"contract", "nsz"})
def _resample(image, x, dx, out_width, y, dy, out_height, clip, border, color, kind, out32, out16, base):  # type: ignore[no-untyped-def]
    """An axis-aligned map of uint8 [H, W * 3] to out_height x out_width pixels at out[base:]."""
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
    columns = np.empty(32, np.float32)  # the colour map by columns, twice four lanes each
    for k in range(4):
        for c in range(4):
            columns[k * 8 + c] = columns[k * 8 + 4 + c] = color[c, k] if c < 3 else np.float32(0.0)
    from_red, from_green, from_blue, offset = load8(columns, 0), load8(columns, 8), load8(columns, 16), load8(columns, 24)
    row = np.zeros(width + 8, np.float32)
    last32, last16 = np.empty(6 * pairs + 8, np.float32), np.empty(6 * pairs + 8, np.uint16)
    for j in range(out_height):
        _blend_rows(image, first_y[j], weight_y[j], left, width, row)
        # A stored pixel spills one lane to the right, into what is written next; the last row goes through a buffer.
        last = j == out_height - 1
        to32, to16, at = (last32, last16, 0) if last else (out32, out16, base + j * out_width * 3)
        for pair in range(pairs):
            a, b, lane = first_x[2 * pair], first_x[2 * pair + 1], pair * taps_x * 8
            pixel = mul_add(load_pixels(row, a, b), load8(lanes, lane), zeros())
            if taps_x == 2:
                pixel = mul_add(load_pixels(row, a + 3, b + 3), load8(lanes, lane + 8), pixel)
            else:
                for k in range(1, taps_x):
                    pixel = mul_add(load_pixels(row, a + 3 * k, b + 3 * k), load8(lanes, lane + 8 * k), pixel)
            pixel = mul_add(from_red, red(pixel), mul_add(from_green, green(pixel), mul_add(from_blue, blue(pixel), offset)))
            if kind == FLOAT32:
                store_float32(to32, at + 6 * pair, at + 6 * pair + 3, pixel)
            elif kind == BFLOAT16:
                store_bfloat16(to16, at + 6 * pair, at + 6 * pair + 3, pixel)
            else:
                store_float16(to16, at + 6 * pair, at + 6 * pair + 3, pixel)
        if last:
            begin, count = base + j * out_width * 3, out_width * 3
            if kind == FLOAT32:
                out32[begin : begin + count] = last32[:count]
            else:
                out16[begin : begin + count] = last16[:count]


@njit(cache=True, nogil=True, boundscheck=False, fastmath={"contract", "nsz"})
def _blend_rows(image, first, weights, left, width, row):  # type: ignore[no-untyped-def]
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


@njit(cache=True, nogil=True, boundscheck=False)
def _warp_reduced(image, matrix, border, color, size, kind, out32, out16, base):  # type: ignore[no-untyped-def]
    """Any homography: reduce the image where the map reduces, then sample it bilinearly."""
    height, width = image.shape[0], image.shape[1] // 3
    small_height, small_width = reduced_size(matrix, size, height, width)
    small = np.empty(small_height * small_width * 3 + 8, np.float32)
    identity = np.zeros((3, 4), np.float32)
    identity[0, 0] = identity[1, 1] = identity[2, 2] = 1.0
    whole = np.array([0, 0, width, height], np.int32)
    dx, dy = width / small_width, height / small_height
    none = np.empty(0, np.uint16)
    _resample(image, 0.0, dx, small_width, 0.0, dy, small_height, whole, ZERO, identity, FLOAT32, small, none, 0)
    m = matrix.astype(np.float64)
    m[0] *= small_width / width
    m[1] *= small_height / height
    _warp(small, small_height, small_width, m, border, color, size, kind, out32, out16, base)


@njit(cache=True, nogil=True, boundscheck=False, fastmath={"contract", "nsz"})
def _warp(image, height, width, m, border, color, size, kind, out32, out16, base):  # type: ignore[no-untyped-def]
    """Sample float32 [height * width * 3] at m's image of every output centre; taps outside follow `border`."""
    row32, row16 = np.zeros(size * 3 + 8, np.float32), np.empty(size * 3 + 8, np.uint16)
    for j in range(size):
        for i in range(size):
            u, v = i + 0.5, j + 0.5
            depth = m[2, 0] * u + m[2, 1] * v + m[2, 2]
            sx = (m[0, 0] * u + m[0, 1] * v + m[0, 2]) / depth - 0.5
            sy = (m[1, 0] * u + m[1, 1] * v + m[1, 2]) / depth - 0.5
            # Far outside nothing changes any more, and the integers below stay small; a point behind the camera is outside.
            sx = min(max(sx, -4.0 * width), 5.0 * width) if depth > 0 else -4.0 * width
            sy = min(max(sy, -4.0 * height), 5.0 * height) if depth > 0 else -4.0 * height
            left, top = int(np.floor(sx)), int(np.floor(sy))
            fx, fy = np.float32(sx - left), np.float32(sy - top)
            r = g = b = np.float32(0.0)
            for dy in range(2):
                wy = fy if dy else np.float32(1.0) - fy
                y = _outside(top + dy, height, border)
                for dx in range(2):
                    x = _outside(left + dx, width, border)
                    if x >= 0 and y >= 0:
                        weight = wy * (fx if dx else np.float32(1.0) - fx)
                        at = (y * width + x) * 3
                        r += weight * image[at]
                        g += weight * image[at + 1]
                        b += weight * image[at + 2]
            for c in range(3):
                row32[3 * i + c] = color[c, 0] * r + color[c, 1] * g + color[c, 2] * b + color[c, 3]
        begin, count = base + j * size * 3, size * 3
        if kind == FLOAT32:
            out32[begin : begin + count] = row32[:count]
            continue
        for i in range(0, count, 8):
            if kind == BFLOAT16:
                store_bfloat16(row16, i, i + 4, load8(row32, i))
            else:
                store_float16(row16, i, i + 4, load8(row32, i))
        out16[begin : begin + count] = row16[:count]


@njit(cache=True, nogil=True)
def _outside(index, length, border):  # type: ignore[no-untyped-def]
    """The stored index that stands for `index`; -1 for black."""
    if 0 <= index < length:
        return index
    if border == ZERO:
        return -1
    if border == 2 or length == 1:
        return min(max(index, 0), length - 1)
    period = 2 * (length - 1)
    index = index % period
    return index if index < length else period - index
