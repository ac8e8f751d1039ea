"""The Gaussian blur of samples on a GPU: Triton kernels.

In: rendered levels in float32 without the colors of the Plan, and the deviation of each sample.
Out: the rows of `triton.render`. It computes what `blur` does on a CPU: `blur_columns` adds pixels
along y, and `blur_rows` adds these sums along x, and maps colors.
"""

from __future__ import annotations

import triton
import triton.language as tl

from slipform.pipelines.rendering.triton import finish, last_of, place

__all__ = ["OPTIONS", "blur_columns", "blur_rows"]

OPTIONS = {"num_warps": 8, "enable_fp_fusion": True}


@triton.jit
def blur_columns(
    values, sigmas, out, RADIUS: tl.constexpr, SIZE: tl.constexpr, BY: tl.constexpr,
    BX: tl.constexpr,
):  # fmt: skip
    """Blur along y, on a grid of `triton.num_programs`.

    Args:
        values: float32 [N, SIZE, SIZE, 3].
        sigmas: float32 [N], deviations in pixels. 0: the sample is not blurred.
        out: Output of the form of `values`.
        RADIUS: Pixels of the filter on each side of its center, below SIZE.
        SIZE: Side of the pictures in pixels.
        BY, BX: Rows and columns of a tile.
    """
    n, column, row = place(SIZE, BY, BX)
    start = n.to(tl.int64) * (3 * SIZE * SIZE)
    red, green, blue = _blurred(
        values + start, tl.load(sigmas + n), column, row, True, RADIUS, SIZE
    )
    to = out + start + (row * SIZE + column) * 3
    there = (column < SIZE) & (row < SIZE)
    tl.store(to, red, mask=there)
    tl.store(to + 1, green, mask=there)
    tl.store(to + 2, blue, mask=there)


@triton.jit
def blur_rows(
    values, sigmas, floats, ints, rows, out, ERASE: tl.constexpr, RADIUS: tl.constexpr,
    SIZE: tl.constexpr, BY: tl.constexpr, BX: tl.constexpr,
):  # fmt: skip
    """Blur along x, map colors and erase, on a grid of `triton.num_programs`.

    Args:
        values: What `blur_columns` wrote.
        sigmas, RADIUS: As for `blur_columns`.
        floats, ints, rows, out, ERASE, SIZE, BY, BX: As for `triton.render`.
    """
    n, column, row = place(SIZE, BY, BX)
    start = n.to(tl.int64) * (3 * SIZE * SIZE)
    red, green, blue = _blurred(
        values + start, tl.load(sigmas + n), column, row, False, RADIUS, SIZE
    )
    last = last_of(floats + 21 * n, ints + 10 * n, rows, n, out, SIZE)
    finish(red, green, blue, last, column, row, ERASE, SIZE)


@triton.jit
def _blurred(
    picture, sigma, column, row, DOWN: tl.constexpr, RADIUS: tl.constexpr, SIZE: tl.constexpr
):  # fmt: skip
    """(red, green, blue), the weighted means of pixels along one axis."""
    column, row = tl.minimum(column, SIZE - 1), tl.minimum(row, SIZE - 1)
    at = picture + (row * SIZE + column) * 3
    red, green, blue, total = tl.load(at), tl.load(at + 1), tl.load(at + 2), 1.0
    taps = tl.where(sigma > 0, RADIUS, 0)
    near = 1.0 / tl.maximum(sigma, 1e-6)
    for k in range(1, taps + 1):
        weight = tl.exp(-0.5 * (k * near) * (k * near))
        total += 2 * weight
        if DOWN:
            one = picture + (tl.abs(row - k) * SIZE + column) * 3
            other = picture + (_mirrored(row + k, SIZE) * SIZE + column) * 3
        else:
            one = picture + (row * SIZE + tl.abs(column - k)) * 3
            other = picture + (row * SIZE + _mirrored(column + k, SIZE)) * 3
        red += weight * (tl.load(one) + tl.load(other))
        green += weight * (tl.load(one + 1) + tl.load(other + 1))
        blue += weight * (tl.load(one + 2) + tl.load(other + 2))
    share = 1.0 / total
    return red * share, green * share, blue * share


@triton.jit
def _mirrored(position, SIZE: tl.constexpr):
    return tl.where(position < SIZE, position, 2 * (SIZE - 1) - position)
