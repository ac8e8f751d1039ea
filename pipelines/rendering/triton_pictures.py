"""Samples with a policy on a GPU: Triton kernels.

In: as for `triton.render`, and the `Chains` of the Plan. Out: the same rows. `sample` makes a
picture of each chain, of whole levels. `triton_operations` changes the pictures, one operation at a
time. `mix` applies the last operation, and adds and colors the pictures. `sample` colors a sample
without operations on pixels at once, which is then not rounded to levels.
"""

from __future__ import annotations

import triton
import triton.language as tl

from slipform.pipelines.plan.triton_chains import UNCHANGED
from slipform.pipelines.rendering.triton import finish, last_of, place
from slipform.pipelines.rendering.triton_operations import operated, store_levels
from slipform.pipelines.rendering.triton_sampling import (
    aligned,
    clip_of,
    geometry_of,
    warped,
)
from slipform.pipelines.rendering.triton_words import image_at

__all__ = ["OPTIONS", "mix", "sample"]

OPTIONS = {"num_warps": 8, "enable_fp_fusion": True}  # of `sample`; `mix` has those of operations


@triton.jit
def sample(
    pixels,
    offsets,
    sizes,
    indices,
    rows,
    floats,
    ints,
    geometry,
    moves,
    pictures,
    out,
    SIZE: tl.constexpr,
    CHAINS: tl.constexpr,
    ERASE: tl.constexpr,
    BY: tl.constexpr,
    BX: tl.constexpr,
):
    """Sample the picture of each chain, on a grid of CHAINS * `triton.num_programs`.

    Args:
        pixels, offsets, sizes, indices, rows, floats, ints, out: As for `triton.render`.
        geometry: float32 [N, CHAINS, 9], as in `Chains`.
        moves: int32 [N, CHAINS], from `triton_chains.draw_chains`.
        pictures: Output, uint8 [N, CHAINS, 3, SIZE, SIZE], of the samples that are not `UNCHANGED`.
            The others are in `out`.
        SIZE, ERASE, BY, BX: As for `triton.render`.
        CHAINS: Chains of a sample.
    """
    at, column, row = place(SIZE, BY, BX)
    n = at // CHAINS
    index = tl.load(indices + n)
    words, first = image_at(pixels, tl.load(offsets + index))
    height, width = tl.load(sizes + 2 * index), tl.load(sizes + 2 * index + 1)
    own, box, u, v = geometry_of(geometry + 9 * at), ints + 10 * n, column + 0.5, row + 0.5
    size, clip = (height, width), clip_of(box)
    _, xy, _, yx, _, _, zx, zy, _ = own
    if (xy != 0) | (yx != 0) | (zx != 0) | (zy != 0):
        reduced = (tl.load(box + 8), tl.load(box + 9))
        red, green, blue = warped(words, first, size, own, clip, reduced, u, v, 0, True)
    else:
        red, green, blue = aligned(words, first, width, own, clip, u, v, 0)
    if tl.load(moves + at) == UNCHANGED:
        last = last_of(floats + 21 * n, box, rows, n, out, SIZE)
        finish(red, green, blue, last, column, row, ERASE, SIZE)
    else:
        r, gr, b = (red + 0.5).to(tl.int32), (green + 0.5).to(tl.int32), (blue + 0.5).to(tl.int32)
        store_levels(pictures, at, r, gr, b, column, row, SIZE)


@triton.jit
def mix(
    pictures,
    geometry,
    ints,
    codes,
    amounts,
    moves,
    tables,
    weights,
    floats,
    rows,
    out,
    SIZE: tl.constexpr,
    CHAINS: tl.constexpr,
    DEPTH: tl.constexpr,
    ERASE: tl.constexpr,
    BY: tl.constexpr,
    BX: tl.constexpr,
):
    """Apply the last operation of each chain, add the pictures of each sample and map its colors,
    on a grid of `triton.num_programs`.

    Args:
        pictures, geometry, ints, codes, amounts, moves, tables, SIZE, CHAINS, DEPTH: As for
            `triton_operations.operate`.
        weights: float32 [N, CHAINS], as in `Chains`. Not read if there is one chain.
        floats, rows, out, ERASE, BY, BX: As for `triton.render`.
    """
    n, column, row = place(SIZE, BY, BX)
    if tl.load(moves + n * CHAINS) == UNCHANGED:
        return
    red = tl.zeros([BY * BX], tl.float32)
    green, blue = red, red
    for chain in range(CHAINS):
        at = n * CHAINS + chain
        r, g, b = operated(
            pictures, geometry, ints, codes, amounts, moves, DEPTH - 1, tables,
            at, column, row, SIZE, CHAINS, DEPTH,
        )  # fmt: skip
        weight = 1.0
        if CHAINS > 1:
            weight = tl.load(weights + at)
        red += r.to(tl.float32) * weight
        green += g.to(tl.float32) * weight
        blue += b.to(tl.float32) * weight
    last = last_of(floats + 21 * n, ints + 10 * n, rows, n, out, SIZE)
    finish(red, green, blue, last, column, row, ERASE, SIZE)
