"""Stored pixels in the memory of a GPU -> input of the net, in one Triton kernel.

The kernel resamples or warps, maps colors, erases and rounds. `triton_pictures` has the kernels of
samples with a policy, and `triton_blur` those of a blur, which follow this one.

In: uint8 pixels of many images in one buffer, and the numbers of a Plan on the device. Out:
[N, S, S, 3] in float32, bfloat16 or float16. It computes the same as `render` does on a CPU, which
`slipform.pipelines.plan.plan` describes. Each program makes some tiles of one output image, one
below the other. Consecutive programs make neighbors, so that they find stored pixels in the cache.

The pixels of a tile are one vector: the threads of a warp are neighbors in a row, in all versions
of Triton. (For a matrix, Triton 3.6 puts them in a column. Each load then touches 16 rows:
bench/gpu-questions.md.) Numbers of a sample are loaded before the loop over the tiles, because the
compiler cannot know that writing an output does not change them.
"""

from __future__ import annotations

import triton
import triton.language as tl

from slipform.pipelines.rendering.triton_sampling import (
    aligned,
    clip_of,
    geometry_of,
    warped,
)
from slipform.pipelines.rendering.triton_words import image_at

__all__ = [
    "NUM_FLOATS",
    "NUM_INTS",
    "finish",
    "last_of",
    "num_programs",
    "options",
    "place",
    "render",
    "strip",
    "tile",
]

NUM_FLOATS = 21  # per sample: geometry 3 x 3, color 3 x 4
NUM_INTS = 10  # per sample: clip, erase (both x0, y0, x1, y1), reduced height and width


def options(aligned: bool) -> dict[str, int]:
    """The options with which `render` is compiled.

    A warp needs twice the threads to hold its positions in registers. All versions of Triton accept
    enable_fp_fusion. Without it Triton 3.9 warns, and later versions compile slower code.

    Args:
        aligned: Whether all samples are axis-aligned.

    Returns:
        Keyword arguments for the launch.
    """
    return {"num_warps": 4 if aligned else 8, "enable_fp_fusion": True}


def tile(size: int) -> tuple[int, int]:
    """The size of the tiles.

    Args:
        size: Side of the output in pixels.

    Returns:
        (rows, columns), powers of two, at least 2.
    """
    side = max(2, triton.next_power_of_2(size))
    return min(16, side), min(32, side)


def strip(size: int, aligned: bool) -> tuple[int, int, int]:
    """What a program of `render` makes: tiles, one below the other.

    The more pixels a thread has, the fewer instructions a pixel needs: the weights of a column, the
    colors and the addresses are computed for several pixels.

    Args:
        size: Side of the output in pixels.
        aligned: Whether all samples are axis-aligned.

    Returns:
        (rows of a tile, its columns, tiles).
    """
    rows, columns = tile(size)
    if aligned and size > 16:
        rows = 32
    return rows, columns, min(8, triton.cdiv(size, rows))


def num_programs(count: int, size: int, rows: int | None = None) -> int:
    """The number of programs in the grid.

    Args:
        count: Number of outputs.
        size: Their side in pixels.
        rows: The rows that a program makes. None: those of a tile.
    """
    high, wide = tile(size)
    return count * triton.cdiv(size, rows or high) * triton.cdiv(size, wide)


@triton.jit
def render(
    pixels,
    offsets,
    sizes,
    indices,
    rows,
    floats,
    ints,
    out,
    SIZE: tl.constexpr,
    BORDER: tl.constexpr,
    ALIGNED: tl.constexpr,
    ERASE: tl.constexpr,
    BY: tl.constexpr,
    BX: tl.constexpr,
    BLOCKS: tl.constexpr,
):
    """Render a batch, on a grid of `num_programs` with BY * BLOCKS rows. All arrays are on the
    device.

    Args:
        pixels: uint8, the pixels of all M stored images.
        offsets: int64 [M], where each image begins in `pixels`.
        sizes: int32 [M, 2], height and width of each image.
        indices: int64 [N], the stored image of each sample.
        rows: int64 [N], the row of `out` where each sample is written.
        floats: float32 [N, NUM_FLOATS].
        ints: int32 [N, NUM_INTS].
        out: Output [N or more, SIZE, SIZE, 3], float32, bfloat16 or float16.
        SIZE: Side of the output in pixels.
        BORDER: As in `taps`.
        ALIGNED: Whether all samples are axis-aligned.
        ERASE: Whether any sample has an erased box.
        BY, BX, BLOCKS: The `strip` of a program: rows and columns of a tile, and tiles.
    """
    n, column, row = place(SIZE, BY, BX, BLOCKS)
    index = tl.load(indices + n)
    words, first = image_at(pixels, tl.load(offsets + index))
    height, width = tl.load(sizes + 2 * index), tl.load(sizes + 2 * index + 1)
    g, box = floats + 21 * n, ints + 10 * n
    clip, last = clip_of(box), last_of(g, box, rows, n, out, SIZE)
    numbers, reduced = geometry_of(g), (tl.load(box + 8), tl.load(box + 9))
    for block in range(BLOCKS):
        at = row + block * BY
        u, v = column + 0.5, at + 0.5
        if ALIGNED:
            red, green, blue = aligned(words, first, width, numbers, clip, u, v, BORDER)
        else:
            size = (height, width)
            red, green, blue = warped(
                words, first, size, numbers, clip, reduced, u, v, BORDER, False
            )
        finish(red, green, blue, last, column, at, ERASE, SIZE)


@triton.jit
def place(SIZE: tl.constexpr, BY: tl.constexpr, BX: tl.constexpr, BLOCKS: tl.constexpr = 1):
    """The tile of a program.

    Args:
        SIZE: Side of the output in pixels.
        BY, BX: Rows and columns of a tile.
        BLOCKS: The number of tiles, one below the other, that a program makes.

    Returns:
        The number of the output; columns and rows of the pixels of the first tile, int32 [BY * BX].
        The pixels of even columns are first, then those of odd columns: a thread then has pairs of
        neighbors, and writes them together.
    """
    ACROSS: tl.constexpr = (SIZE + BX - 1) // BX
    TILES: tl.constexpr = ACROSS * ((SIZE + BY * BLOCKS - 1) // (BY * BLOCKS))
    n = tl.program_id(0) // TILES
    tile_y = tl.program_id(0) % TILES // ACROSS
    tile_x = tl.program_id(0) % TILES % ACROSS
    pixel = tl.arange(0, BY * BX)
    odd, pair = pixel // (BY * BX // 2), pixel % (BY * BX // 2)
    column = pair % (BX // 2) * 2 + odd
    return n, tile_x * BX + column, tile_y * (BY * BLOCKS) + pair // (BX // 2)


@triton.jit
def finish(red, green, blue, last, column, row, ERASE: tl.constexpr, SIZE: tl.constexpr):
    """Map colors, erase, round and write a tile of an output.

    Args:
        red, green, blue: Levels 0..255, float32.
        last: From `last_of`.
        column, row: From `place`.
        ERASE: Whether any sample has an erased box.
        SIZE: Side of the output in pixels.
    """
    target, box, c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11 = last
    first = c3 + c0 * red + c1 * green + c2 * blue
    second = c7 + c4 * red + c5 * green + c6 * blue
    third = c11 + c8 * red + c9 * green + c10 * blue
    if ERASE:
        kept = (column < tl.load(box + 4)) | (column >= tl.load(box + 6))
        kept = kept | (row < tl.load(box + 5)) | (row >= tl.load(box + 7))
        first, second = tl.where(kept, first, 0.0), tl.where(kept, second, 0.0)
        third = tl.where(kept, third, 0.0)
    _store(target, first, second, third, column, row, SIZE)


@triton.jit
def last_of(g, box, rows, n, out, SIZE: tl.constexpr):
    """The numbers of a sample for `finish`. They are loaded once, before the loops.

    Args:
        g, box: Where the numbers of the sample begin in `floats` and `ints`.
        rows, out, SIZE: As for `render`.
        n: The sample.
    """
    c = g + 9
    target = out + tl.load(rows + n) * (SIZE * SIZE * 3)
    return (
        target, box, tl.load(c), tl.load(c + 1), tl.load(c + 2), tl.load(c + 3), tl.load(c + 4),
        tl.load(c + 5), tl.load(c + 6), tl.load(c + 7), tl.load(c + 8), tl.load(c + 9),
        tl.load(c + 10), tl.load(c + 11),
    )  # fmt: skip


@triton.jit
def _store(out, first, second, third, column, row, SIZE: tl.constexpr):
    """Write a tile of one image [SIZE, SIZE, 3]; if SIZE is even, the six values of two neighbors
    as three pairs."""
    kind: tl.constexpr = out.dtype.element_ty
    if SIZE % 2 == 0:
        first_even, first_odd = _split(first)
        second_even, second_odd = _split(second)
        third_even, third_odd = _split(third)
        pair, row = _split(column)[0] // 2, _split(row)[0]
        at, there = row * (SIZE * 3) + pair * 6, (row < SIZE) & (2 * pair < SIZE)
        to, there = out + at[:, None] + tl.arange(0, 2)[None, :], there[:, None]
        tl.store(to, _both(first_even, second_even, kind), mask=there)
        tl.store(to + 2, _both(third_even, first_odd, kind), mask=there)
        tl.store(to + 4, _both(second_odd, third_odd, kind), mask=there)
    else:
        at, there = out + (row * SIZE + column) * 3, (row < SIZE) & (column < SIZE)
        tl.store(at, first.to(kind), mask=there)
        tl.store(at + 1, second.to(kind), mask=there)
        tl.store(at + 2, third.to(kind), mask=there)


@triton.jit
def _both(low, high, kind: tl.constexpr):
    """Pairs of values; a thread has both values of a pair."""
    return tl.join(low, high).to(kind)


@triton.jit
def _split(values):
    """The values of the even and of the odd columns; see `place`."""
    return tl.split(tl.trans(tl.reshape(values, (2, values.shape[0] // 2))))
