"""Stored pixels in the memory of a GPU -> input of the net, in one Triton kernel.

The kernel resamples or warps, maps colors, erases and rounds. `triton_pictures` has the kernels of
samples with a policy, and `triton_blur` those of a blur, which follow this one.

In: uint8 pixels of many images in one buffer, and the numbers of a Plan on the device. Out:
[N, S, S, 3] in float32, bfloat16 or float16. It computes the same as `render` does on a CPU, which
`slipform.pipelines.plan.plan` describes. Each program makes one tile of one output image.
Consecutive programs make neighboring tiles, so that they find stored pixels in the cache.

The pixels of a tile are one vector, row after row: the threads of a warp are neighbors in a row, in
all versions of Triton. (For a matrix, Triton 3.6 puts them in a column. Each load then touches 16
rows, and rendering takes 9 times as long as its reads and writes: bench/gpu-questions.md.) A thread
has pixels of one column, and the compiler computes the weights of that column once.
"""

from __future__ import annotations

import triton
import triton.language as tl

from slipform.pipelines.rendering.triton_sampling import aligned, warped

__all__ = [
    "NUM_FLOATS",
    "NUM_INTS",
    "finish",
    "num_programs",
    "options",
    "place",
    "render",
    "tile",
]

NUM_FLOATS = 21  # per sample: geometry 3 x 3, color 3 x 4
NUM_INTS = 10  # per sample: clip, erase (both x0, y0, x1, y1), reduced height and width


def options(aligned: bool) -> dict[str, int]:
    """The options with which the kernel is compiled.

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
        (rows, columns), powers of two.
    """
    return min(16, triton.next_power_of_2(size)), min(32, triton.next_power_of_2(size))


def num_programs(count: int, size: int) -> int:
    """The number of programs in the grid.

    Args:
        count: Number of outputs.
        size: Their side in pixels.
    """
    rows, columns = tile(size)
    return count * triton.cdiv(size, rows) * triton.cdiv(size, columns)


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
):
    """Render a batch, on a grid of `num_programs`. All arrays are on the device.

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
        BY, BX: Rows and columns of a tile.
    """
    n, column, row = place(SIZE, BY, BX)
    index = tl.load(indices + n)
    image = pixels + tl.load(offsets + index)
    height, width = tl.load(sizes + 2 * index), tl.load(sizes + 2 * index + 1)
    g, box = floats + 21 * n, ints + 10 * n
    if ALIGNED:
        red, green, blue = aligned(image, width, g, box, column + 0.5, row + 0.5, BORDER)
    else:
        red, green, blue = warped(
            image, height, width, g, box, column + 0.5, row + 0.5, BORDER, False
        )
    finish(red, green, blue, g, box, rows, n, out, column, row, ERASE, SIZE)


@triton.jit
def place(SIZE: tl.constexpr, BY: tl.constexpr, BX: tl.constexpr):
    """The tile of a program.

    Args:
        SIZE: Side of the output in pixels.
        BY, BX: Rows and columns of a tile.

    Returns:
        The number of the output; columns and rows of the pixels of the tile, int32 [BY * BX].
    """
    ACROSS: tl.constexpr = (SIZE + BX - 1) // BX
    TILES: tl.constexpr = ACROSS * ((SIZE + BY - 1) // BY)
    n = tl.program_id(0) // TILES
    tile_y = tl.program_id(0) % TILES // ACROSS
    tile_x = tl.program_id(0) % TILES % ACROSS
    pixel = tl.arange(0, BY * BX)
    return n, tile_x * BX + pixel % BX, tile_y * BY + pixel // BX


@triton.jit
def finish(
    red, green, blue, g, box, rows, n, out, column, row, ERASE: tl.constexpr, SIZE: tl.constexpr
):  # fmt: skip
    """Map colors, erase, round and write a tile of an output.

    Args:
        red, green, blue: Levels 0..255, float32.
        g, box: Where the numbers of the sample begin in `floats` and `ints`.
        rows, out: As for `render`.
        n: The sample.
        column, row: From `place`.
        ERASE: Whether any sample has an erased box.
        SIZE: Side of the output in pixels.
    """
    c = g + 9
    first = tl.load(c) * red + tl.load(c + 1) * green + tl.load(c + 2) * blue + tl.load(c + 3)
    second = tl.load(c + 4) * red + tl.load(c + 5) * green + tl.load(c + 6) * blue + tl.load(c + 7)
    third = tl.load(c + 8) * red + tl.load(c + 9) * green + tl.load(c + 10) * blue + tl.load(c + 11)
    if ERASE:
        kept = (column < tl.load(box + 4)) | (column >= tl.load(box + 6))
        kept = kept | (row < tl.load(box + 5)) | (row >= tl.load(box + 7))
        first, second = tl.where(kept, first, 0.0), tl.where(kept, second, 0.0)
        third = tl.where(kept, third, 0.0)
    target = out + tl.load(rows + n) * (SIZE * SIZE * 3)
    _store(target, first, second, third, column, row, SIZE)


@triton.jit
def _store(out, first, second, third, column, row, SIZE: tl.constexpr):
    """Write a tile of one image [SIZE, SIZE, 3]; two pixels of 16 bits as three words."""
    kind: tl.constexpr = out.dtype.element_ty
    if kind.primitive_bitwidth == 16 and SIZE % 2 == 0:
        first_even, first_odd = _pairs(first, kind)
        second_even, second_odd = _pairs(second, kind)
        third_even, third_odd = _pairs(third, kind)
        column, row = _split(column)[0], _split(row)[0]
        words = out.to(tl.pointer_type(tl.uint32)) + (row * SIZE + column) // 2 * 3
        there = (row < SIZE) & (column < SIZE)
        tl.store(words, first_even | (second_even << 16), mask=there)
        tl.store(words + 1, third_even | (first_odd << 16), mask=there)
        tl.store(words + 2, second_odd | (third_odd << 16), mask=there)
    else:
        at, there = out + (row * SIZE + column) * 3, (row < SIZE) & (column < SIZE)
        tl.store(at, first.to(kind), mask=there)
        tl.store(at + 1, second.to(kind), mask=there)
        tl.store(at + 2, third.to(kind), mask=there)


@triton.jit
def _pairs(values, kind: tl.constexpr):
    """The bits of the even and of the odd values, uint32."""
    return _split(values.to(kind).to(tl.uint16, bitcast=True).to(tl.uint32))


@triton.jit
def _split(values):
    """The even and the odd values."""
    return tl.split(tl.reshape(values, (values.shape[0] // 2, 2)))
