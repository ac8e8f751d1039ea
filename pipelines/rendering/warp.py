"""The warping kernel: any homography of stored pixels -> colored output rows. Compiled by numba.

In: uint8 pixels, a map from output points to stored points, a color map. Out: float32, bfloat16 or
float16 rows. If the map reduces, the image is reduced first (`resample`). Then it is sampled
bilinearly, with the four taps of two output pixels at a time.
"""

from __future__ import annotations

import numpy as np

from slipform.pipelines.kernel import kernel
from slipform.pipelines.rendering.output import color_columns, colored, copy_row, loaded
from slipform.pipelines.rendering.reduce import moved_to, reduce
from slipform.pipelines.rendering.taps import EDGE, ZERO, reduced_size
from slipform.pipelines.simd import halves, load8, mul_add, pair_sums, zeros
from slipform.pipelines.stores import store

__all__ = ["warp"]

_FRAME = 2  # black pixels around the reduced image, so that taps outside need no test


@kernel(fastmath={"contract", "nsz"})
def warp(image, matrix, clip, reduced, border, cubic, color, size, kind, out32, out16, base):
    """Warp one image to size x size pixels, which are written to out[base:].

    Args:
        image: uint8 [H, W * 3].
        matrix: float64 [3, 3], output point -> stored point: the geometry of the `Plan`.
        clip: int32 [4] (x0, y0, x1, y1), the stored pixels that may be used.
        reduced: (height, width): the image is what is inside `clip`, and is reduced to this size.
            (0, 0): points outside `clip` are black, and the map says how the image is reduced.
        border: ZERO, REFLECT or EDGE of `taps`.
        cubic: Whether the filter that reduces the image is cubic.
        color: float32 [3, 4], as in `Plan`. None: the pixels stay as they are.
        size: Side of the output in pixels.
        kind: FLOAT32, BFLOAT16, FLOAT16 or LEVELS of `stores`.
        out32: Output of kind FLOAT32: float32, flat.
        out16: Output of the other kinds: uint16, the bits of floats, or uint8 of kind LEVELS, flat.
        base: Position of the first row in the output.
    """
    box = np.array([0, 0, image.shape[1] // 3, image.shape[0]], np.int32)
    cut = reduced[0] > 0
    if cut:
        box[:] = clip
    height, width = reduced
    if not cut:
        height, width = reduced_size(matrix, size, box[3], box[2])
    small = reduce(image, box, height, width, cubic, np.int64(_FRAME), np.empty(0, np.float32))
    m = moved_to(matrix, box, height, width)
    limits = _limits(clip, box[3], box[2], height, width)
    if cut:
        limits = (-np.inf, -np.inf, np.inf, np.inf)
    stride = (width + 2 * _FRAME) * 4
    if color is not None:
        columns = loaded(color_columns(color))
    pairs = (size + 1) // 2
    row32, row16 = np.empty(6 * pairs + 8, np.float32), np.empty(6 * pairs + 8, out16.dtype)
    one = np.float32(1.0)
    for j in range(size):
        for pair in range(pairs):
            at_a, fx_a, fy_a = _locate(m, 2 * pair, j, height, width, stride, border, limits)
            at_b, fx_b, fy_b = _locate(m, 2 * pair + 1, j, height, width, stride, border, limits)
            upper, lower = halves(one - fy_a, one - fy_a), halves(fy_a, fy_a)
            a = mul_add(load8(small, at_a), upper, zeros())
            a = mul_add(load8(small, at_a + stride), lower, a)
            upper, lower = halves(one - fy_b, one - fy_b), halves(fy_b, fy_b)
            b = mul_add(load8(small, at_b), upper, zeros())
            b = mul_add(load8(small, at_b + stride), lower, b)
            pixel = pair_sums(
                mul_add(a, halves(one - fx_a, fx_a), zeros()),
                mul_add(b, halves(one - fx_b, fx_b), zeros()),
            )
            if color is not None:
                pixel = colored(pixel, columns)
            store(kind, row32, row16, 6 * pair, pixel)
        copy_row(kind, row32, row16, out32, out16, base + j * size * 3, size * 3)


@kernel
def _limits(clip, stored_height, stored_width, height, width):
    """The limits (left, top, right, bottom) of sampled positions in the reduced image.

    Position 0 is the center of the first pixel. A side of `clip` at the edge of the image is no
    limit.
    """
    x, y = width / stored_width, height / stored_height
    return (
        clip[0] * x - 0.5 if clip[0] > 0 else -np.inf,
        clip[1] * y - 0.5 if clip[1] > 0 else -np.inf,
        clip[2] * x - 0.5 if clip[2] < stored_width else np.inf,
        clip[3] * y - 0.5 if clip[3] < stored_height else np.inf,
    )


@kernel
def _locate(m, i, j, height, width, stride, border, limits):
    """The position of the upper left tap of output pixel (i, j) in the framed image, and the
    distances (x, y) from this tap to the sampled point."""
    u, v = i + 0.5, j + 0.5
    depth = m[2, 0] * u + m[2, 1] * v + m[2, 2]
    near = 1.0 / depth
    x = (m[0, 0] * u + m[0, 1] * v + m[0, 2]) * near - 0.5
    y = (m[1, 0] * u + m[1, 1] * v + m[1, 2]) * near - 0.5
    if x < limits[0] or y < limits[1] or x >= limits[2] or y >= limits[3]:
        return 0, np.float32(0.0), np.float32(0.0)  # a tap in the black frame
    if border == ZERO:
        if not depth > 0:  # the point is behind the camera
            x = -2.0
        x, y = min(max(x, -2.0), width + 0.0), min(max(y, -2.0), height + 0.0)
    elif border == EDGE:
        x, y = min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0)
    else:
        x, y = _mirror(x, width), _mirror(y, height)
    left, top = int(np.floor(x)), int(np.floor(y))
    return (top + _FRAME) * stride + (left + _FRAME) * 4, np.float32(x - left), np.float32(y - top)


@kernel
def _mirror(x, length):
    """Mirror a position into the range from the center of the first to that of the last pixel."""
    period = max(2.0 * (length - 1), 1e-6)
    x = min(max(x, -1e6), 1e6) % period
    return min(x, period - x, length - 1.0)
