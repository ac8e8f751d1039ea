"""Stored pixels in the memory of a GPU -> input of the net, in one Triton kernel.

The kernel resamples or warps, maps colors, erases and rounds.

In: uint8 pixels of many images in one buffer, and the numbers of a Plan on the device. Out:
[N, S, S, 3] in float32, bfloat16 or float16. It computes the same as `render` does on a CPU, which
`slipform.pipelines.plan.plan` describes. Each program makes one tile of one output image.
Consecutive programs make neighboring tiles, so that they find stored pixels in the cache.

The pixels of a tile are one vector, row after row: the threads of a warp are neighbors in a row, in
all versions of Triton. (For a matrix, Triton 3.6 puts them in a column. Each load then touches 16
rows, which took 9 times as long on an H100.) A thread has pixels of one column, and the compiler
computes the weights of that column once. Positions are clamped to the image, so loads need no mask.
Positions inside an image have 32 bits.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["NUM_FLOATS", "NUM_INTS", "num_programs", "options", "render", "tile"]

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
    ACROSS: tl.constexpr = (SIZE + BX - 1) // BX
    TILES: tl.constexpr = ACROSS * ((SIZE + BY - 1) // BY)
    n = tl.program_id(0) // TILES
    tile_y = tl.program_id(0) % TILES // ACROSS
    tile_x = tl.program_id(0) % TILES % ACROSS
    pixel = tl.arange(0, BY * BX)
    column, row = tile_x * BX + pixel % BX, tile_y * BY + pixel // BX
    index = tl.load(indices + n)
    image = pixels + tl.load(offsets + index)
    height, width = tl.load(sizes + 2 * index), tl.load(sizes + 2 * index + 1)
    g, box = floats + 21 * n, ints + 10 * n
    if ALIGNED:
        red, green, blue = _aligned(image, width, g, box, column + 0.5, row + 0.5, BORDER)
    else:
        red, green, blue = _warped(image, height, width, g, box, column + 0.5, row + 0.5, BORDER)
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
def _aligned(image, width, g, box, u, v, BORDER: tl.constexpr):
    """(r, g, b) of a box of the image, for the output centers (u, v) of a tile."""
    step_x, start_x, step_y, start_y = tl.load(g), tl.load(g + 2), tl.load(g + 4), tl.load(g + 5)
    left, top, right, bottom = tl.load(box), tl.load(box + 1), tl.load(box + 2), tl.load(box + 3)
    x, y = start_x + u * step_x, start_y + v * step_y
    wide, high = tl.abs(step_x), tl.abs(step_y)
    inside = (x >= left) & (x < right) & (y >= top) & (y < bottom)
    x, y = _fold(x, wide, left, right, BORDER), _fold(y, high, top, bottom, BORDER)
    whole = (wide == 1) & (high == 1)
    whole = whole & (start_x == tl.floor(start_x)) & (start_y == tl.floor(start_y))
    wide, high = tl.maximum(wide, 1.0), tl.maximum(high, 1.0)
    # The same call three times, so that the compiler knows the frequent numbers of taps.
    if whole:  # moved by whole pixels
        red, green, blue = _average(image, width, x, y, 1.0, 1.0, left, top, right, bottom, 1, 1)
    elif (wide == 1) & (high == 1):  # not reduced
        red, green, blue = _average(image, width, x, y, 1.0, 1.0, left, top, right, bottom, 2, 2)
    else:
        taps_x, taps_y = _num_taps(wide), _num_taps(high)
        red, green, blue = _average(
            image, width, x, y, wide, high, left, top, right, bottom, taps_x, taps_y
        )
    if BORDER == 0:
        red, green = tl.where(inside, red, 0.0), tl.where(inside, green, 0.0)
        blue = tl.where(inside, blue, 0.0)
    return red, green, blue


@triton.jit
def _warped(image, height, width, g, box, u, v, BORDER: tl.constexpr):
    """(r, g, b) [BY, BX] of any homography: bilinear samples of the reduced image. Its pixels are
    averages of stored pixels, computed when they are needed."""
    depth = tl.load(g + 6) * u + tl.load(g + 7) * v + tl.load(g + 8)
    small_height, small_width = tl.load(box + 8), tl.load(box + 9)
    step_x, step_y = width / small_width.to(tl.float32), height / small_height.to(tl.float32)
    x = (tl.load(g) * u + tl.load(g + 1) * v + tl.load(g + 2)) / depth / step_x - 0.5
    y = (tl.load(g + 3) * u + tl.load(g + 4) * v + tl.load(g + 5)) / depth / step_y - 0.5
    x = tl.where(depth > 0, tl.minimum(tl.maximum(x, -1e6), 1e6), -1e6)
    y = tl.minimum(tl.maximum(y, -1e6), 1e6)
    left, top, right, bottom = tl.load(box), tl.load(box + 1), tl.load(box + 2), tl.load(box + 3)
    from_x, from_y = (x + 0.5) * step_x, (y + 0.5) * step_y
    seen = ((left <= 0) | (from_x >= left)) & ((right >= width) | (from_x < right))
    seen = seen & ((top <= 0) | (from_y >= top)) & ((bottom >= height) | (from_y < bottom))
    i, j = tl.floor(x), tl.floor(y)
    part_x, part_y = x - i, y - j
    red, green, blue = x * 0, x * 0, x * 0
    for tap in range(4):
        at_x, inside_x = _outside(i.to(tl.int32) + tap % 2, small_width, BORDER)
        at_y, inside_y = _outside(j.to(tl.int32) + tap // 2, small_height, BORDER)
        weight = tl.where(tap % 2 == 1, part_x, 1 - part_x)
        weight *= tl.where(tap // 2 == 1, part_y, 1 - part_y)
        weight = tl.where(inside_x & inside_y & seen, weight, 0.0)
        from_x, from_y = (at_x + 0.5) * step_x, (at_y + 0.5) * step_y
        if (step_x == 1) & (step_y == 1):
            r, gr, b = _average(image, width, from_x, from_y, 1.0, 1.0, 0, 0, width, height, 1, 1)
        else:
            taps_x, taps_y = _num_taps(step_x), _num_taps(step_y)
            r, gr, b = _average(
                image, width, from_x, from_y, step_x, step_y, 0, 0, width, height, taps_x, taps_y
            )
        red += weight * r
        green += weight * gr
        blue += weight * b
    return red, green, blue


@triton.jit
def _num_taps(support):
    """The largest number of pixels whose centers are inside an open interval of 2 * support."""
    return tl.ceil(2 * support).to(tl.int32)


@triton.jit
def _average(image, width, x, y, wide, high, left, top, right, bottom, taps_x, taps_y):
    """The mean (r, g, b) of stored pixels, weighted by a triangle about (x, y).

    wide and high, both >= 1, are half the width and height of the triangle. Only the pixels in
    left..right and top..bottom count. The mean of no pixels is 0.
    """
    per_x, per_y = 1.0 / wide, 1.0 / high
    first_x = tl.floor(x - wide + 0.5).to(tl.int32)
    first_y = tl.floor(y - high + 0.5).to(tl.int32)
    red, green, blue = x * 0 + y * 0, x * 0 + y * 0, x * 0 + y * 0
    total_x, total_y = x * 0, y * 0
    for ky in range(taps_y):
        row = first_y + ky
        weight_y = tl.maximum(1.0 - tl.abs(row + 0.5 - y) * per_y, 0.0)
        weight_y = tl.where((row >= top) & (row < bottom), weight_y, 0.0)
        total_y += weight_y
        at_row = tl.minimum(tl.maximum(row, top), bottom - 1) * (3 * width)
        line_red, line_green, line_blue = red * 0, red * 0, red * 0
        line_total = x * 0
        for kx in range(taps_x):
            column = first_x + kx
            weight_x = tl.maximum(1.0 - tl.abs(column + 0.5 - x) * per_x, 0.0)
            weight_x = tl.where((column >= left) & (column < right), weight_x, 0.0)
            line_total += weight_x
            at = image + (at_row + 3 * tl.minimum(tl.maximum(column, left), right - 1))
            line_red += weight_x * tl.load(at)
            line_green += weight_x * tl.load(at + 1)
            line_blue += weight_x * tl.load(at + 2)
        total_x = line_total
        red += weight_y * line_red
        green += weight_y * line_green
        blue += weight_y * line_blue
    share = 1.0 / tl.maximum(total_x * total_y, 1e-12)
    return red * share, green * share, blue * share


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


@triton.jit
def _fold(center, step, low, high, BORDER: tl.constexpr):
    """Move centers outside low..high inside, as `taps.axis_taps` does for edge and reflect."""
    if BORDER == 0:
        return center
    inner_low, inner_high = low + 0.5 * step, high - 0.5 * step
    outside = (center < low) | (center >= high)
    if BORDER == 2:
        folded = tl.minimum(tl.maximum(center, inner_low), inner_high)
    else:
        period = tl.maximum(2 * (inner_high - inner_low), 1e-6)
        phase = center - inner_low
        phase -= tl.floor(phase / period) * period
        folded = inner_low + tl.minimum(phase, period - phase)
    folded = tl.where(inner_high <= inner_low, 0.5 * (low + high), folded)
    return tl.where(outside, folded, center)


@triton.jit
def _outside(index, length, BORDER: tl.constexpr):
    """(the stored index to be used for `index`, whether there is one)."""
    inside = (index >= 0) & (index < length)
    if BORDER == 0:
        return index, inside
    if BORDER == 2:
        return tl.minimum(tl.maximum(index, 0), length - 1), index == index
    period = tl.maximum(2 * (length - 1), 1)
    folded = index % period
    folded = tl.where(folded < 0, folded + period, folded)
    folded = tl.where(folded < length, folded, period - folded)
    return tl.minimum(folded, length - 1), index == index
