"""The operations of a policy on pictures in the memory of a GPU: Triton kernels.

In: a picture of each chain, uint8 [3, S, S], and codes and amounts of its operations. Out: the
pictures after one more operation. The arithmetic is that of `operations`, bit for bit: products and
sums are not fused (`OPTIONS`).

Most operations change each level of a channel in the same way. For these, `find_tables` first
writes the new level of each of the 256 levels. It reads the picture where that depends on it:
auto contrast, equalize, contrast. `operated` then looks the levels up. It computes color and
sharpness itself.
"""

from __future__ import annotations

import triton
import triton.language as tl

from slipform.pipelines.rendering.triton import place

__all__ = ["OPTIONS", "find_tables", "operate", "operated", "store_levels"]

# Keyword arguments of each launch.
OPTIONS = {"num_warps": 8, "enable_fp_fusion": False}

# The codes of `slipform.pipelines.plan.operations`. tests/gpu/test_operations.py compares them.
BRIGHTNESS, COLOR, CONTRAST = tl.constexpr(6), tl.constexpr(7), tl.constexpr(8)
SHARPNESS, POSTERIZE, SOLARIZE = tl.constexpr(9), tl.constexpr(10), tl.constexpr(11)
AUTO_CONTRAST, EQUALIZE, INVERT = tl.constexpr(12), tl.constexpr(13), tl.constexpr(14)


@triton.jit(do_not_specialize=["k"])
def find_tables(
    pictures,
    geometry,
    ints,
    codes,
    amounts,
    moves,
    k,
    tables,
    SIZE: tl.constexpr,
    CHAINS: tl.constexpr,
    DEPTH: tl.constexpr,
    BY: tl.constexpr,
    BX: tl.constexpr,
):
    """Write the table of an operation of each chain, on a grid of N * CHAINS * 3 programs.

    Args:
        pictures: uint8 [N, CHAINS, 3, SIZE, SIZE].
        geometry: float32 [N, CHAINS, 9], as in `Chains`.
        ints: int32 [N, NUM_INTS], as for `triton.render`.
        codes: int32 [N, CHAINS, DEPTH], as in `Chains`.
        amounts: float32 [N, CHAINS, DEPTH], as in `Chains`.
        moves: int32 [N, CHAINS], from `triton_chains.draw_chains`.
        k: The position of the operation in its chain.
        tables: Output, uint8 [N, CHAINS, 3, 256]. Those of color and sharpness are not written.
        SIZE: Side of the pictures in pixels.
        CHAINS, DEPTH: The shape of `codes`.
        BY, BX: Rows and columns of the pixels that are read at once.
    """
    at, channel = tl.program_id(0) // 3, tl.program_id(0) % 3
    code, amount = tl.load(codes + at * DEPTH + k), tl.load(amounts + at * DEPTH + k)
    if (code < BRIGHTNESS) | (code == COLOR) | (code == SHARPNESS):
        return
    picture = pictures + at * (3 * SIZE * SIZE)
    g, box, masked = geometry + 9 * at, ints + 10 * (at // CHAINS), k < tl.load(moves + at)
    level = tl.arange(0, 256)
    value = level.to(tl.float32)
    table = level
    if code == BRIGHTNESS:
        table = _cut_off(value * (amount + 1.0))
    elif code == CONTRAST:
        mean = _gray_mean(picture, g, box, masked, SIZE, BY, BX)
        table = _cut_off(value * (amount + 1.0) + mean * -amount)
    elif code == POSTERIZE:
        table = level & (255 & (255 << (8 - amount.to(tl.int32))))
    elif code == SOLARIZE:
        table = tl.where(level >= tl.ceil(amount * 255.0).to(tl.int32), 255 - level, level)
    elif code == INVERT:
        table = 255 - level
    else:
        counts = _counts(picture + channel * (SIZE * SIZE), g, box, masked, SIZE, BY, BX)
        highest = tl.max(tl.where(counts > 0, level, 0))
        if code == AUTO_CONTRAST:
            lowest = tl.min(tl.where(counts > 0, level, 255))
            none = lowest >= highest
            low = tl.where(none, 0, lowest).to(tl.float32)
            scale = (tl.where(none, 255, highest).to(tl.float32) - low) * (1.0 / 255.0)
            # A quotient of float64 that is rounded to float32 is that of float32.
            table = _cut_off(((value - low).to(tl.float64) / scale.to(tl.float64)).to(tl.float32))
        else:
            total = tl.sum(counts)
            step = (total - tl.sum(tl.where(level == highest, counts, 0))) // 255
            below = step // 2 + tl.cumsum(counts) - counts
            full = tl.minimum(below // tl.maximum(step, 1), 255)
            table = tl.where(step > 0, full, level)
    tl.store(tables + (at * 3 + channel) * 256 + level, table.to(tl.uint8))


@triton.jit(do_not_specialize=["k"])
def operate(
    pictures,
    geometry,
    ints,
    codes,
    amounts,
    moves,
    k,
    tables,
    out,
    SIZE: tl.constexpr,
    CHAINS: tl.constexpr,
    DEPTH: tl.constexpr,
    BY: tl.constexpr,
    BX: tl.constexpr,
):
    """Apply one operation of each chain, on a grid of CHAINS * `triton.num_programs`.

    Args:
        pictures, geometry, ints, codes, amounts, moves, k, SIZE, CHAINS, DEPTH: As for
            `find_tables`.
        tables: What `find_tables` wrote.
        out: Output, uint8 [N, CHAINS, 3, SIZE, SIZE]. Other memory than `pictures`.
        BY, BX: Rows and columns of a tile.
    """
    at, column, row = place(SIZE, BY, BX)
    red, green, blue = operated(
        pictures, geometry, ints, codes, amounts, moves, k, tables,
        at, column, row, SIZE, CHAINS, DEPTH,
    )  # fmt: skip
    store_levels(out, at, red, green, blue, column, row, SIZE)


@triton.jit
def operated(
    pictures, geometry, ints, codes, amounts, moves, k, tables, at, column, row,
    SIZE: tl.constexpr, CHAINS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """A tile of a picture after an operation.

    Operations before the last one on positions change only the pixels that show the image.

    Args:
        pictures, geometry, ints, codes, amounts, moves, k, tables, SIZE, CHAINS, DEPTH: As for
            `operate`.
        at: The picture: sample * CHAINS + chain.
        column, row: Its pixels.

    Returns:
        (red, green, blue), levels in int32.
    """
    picture = pictures + at * (3 * SIZE * SIZE)
    red, green, blue = _levels(picture, column, row, (column < SIZE) & (row < SIZE), SIZE)
    code, amount = tl.load(codes + at * DEPTH + k), tl.load(amounts + at * DEPTH + k)
    if code >= BRIGHTNESS:
        g, box, masked = geometry + 9 * at, ints + 10 * (at // CHAINS), k < tl.load(moves + at)
        begin, end = _span(g, box, row, masked, SIZE)
        new_red, new_green, new_blue = red, green, blue
        if code == COLOR:
            gray = _gray(red, green, blue) * -amount
            new_red = _cut_off(red.to(tl.float32) * (amount + 1.0) + gray)
            new_green = _cut_off(green.to(tl.float32) * (amount + 1.0) + gray)
            new_blue = _cut_off(blue.to(tl.float32) * (amount + 1.0) + gray)
        elif code == SHARPNESS:
            # The outermost pixels of the picture and of a span keep their levels.
            begin, end = tl.where((row > 0) & (row < SIZE - 1), begin + 1, SIZE), end - 1
            new_red = _sharpened(picture, red, column, row, amount, SIZE)
            new_green = _sharpened(picture + SIZE * SIZE, green, column, row, amount, SIZE)
            new_blue = _sharpened(picture + 2 * SIZE * SIZE, blue, column, row, amount, SIZE)
        else:
            table = tables + at * (3 * 256)
            new_red = tl.load(table + red).to(tl.int32)
            new_green = tl.load(table + 256 + green).to(tl.int32)
            new_blue = tl.load(table + 512 + blue).to(tl.int32)
        inside = (column >= begin) & (column < end)
        red, green = tl.where(inside, new_red, red), tl.where(inside, new_green, green)
        blue = tl.where(inside, new_blue, blue)
    return red, green, blue


@triton.jit
def store_levels(pictures, at, red, green, blue, column, row, SIZE: tl.constexpr):
    """Write a tile of a picture.

    Args:
        pictures, at, column, row, SIZE: As for `operated`.
        red, green, blue: Levels, int32.
    """
    there = (column < SIZE) & (row < SIZE)
    to = pictures + at * (3 * SIZE * SIZE) + (row * SIZE + column)
    tl.store(to, red.to(tl.uint8), mask=there)
    tl.store(to + SIZE * SIZE, green.to(tl.uint8), mask=there)
    tl.store(to + 2 * SIZE * SIZE, blue.to(tl.uint8), mask=there)


@triton.jit
def _cut_off(value):
    return tl.minimum(tl.maximum(value, 0.0), 255.0).to(tl.int32)


@triton.jit
def _levels(picture, column, row, mask, SIZE: tl.constexpr):
    """(red, green, blue) of some pixels, int32. 0 where `mask` is False."""
    at = picture + (row * SIZE + column)
    red = tl.load(at, mask=mask, other=0).to(tl.int32)
    green = tl.load(at + SIZE * SIZE, mask=mask, other=0).to(tl.int32)
    return red, green, tl.load(at + 2 * SIZE * SIZE, mask=mask, other=0).to(tl.int32)


@triton.jit
def _gray(red, green, blue):
    """The luma of pixels, a whole level in float32."""
    luma = red.to(tl.float32) * 0.2989 + green.to(tl.float32) * 0.587
    return tl.floor(luma + blue.to(tl.float32) * 0.114)


@triton.jit
def _sharpened(plane, level, column, row, amount, SIZE: tl.constexpr):
    """The levels of one channel, away from the mean of their neighborhoods or toward it: weights 1,
    and 5 for the pixel itself."""
    total = 4 * level
    for tap in tl.static_range(9):
        x, y = column + (tap % 3 - 1), row + (tap // 3 - 1)
        mask = (x >= 0) & (x < SIZE) & (y >= 0) & (y < SIZE)
        total += tl.load(plane + (y * SIZE + x), mask=mask, other=0).to(tl.int32)
    value = level.to(tl.float32)
    mean = tl.floor(total.to(tl.float32) * (1.0 / 13.0) + 0.5)
    return _cut_off(value + (mean - value) * -amount)


@triton.jit
def _span(g, box, row, masked, SIZE: tl.constexpr):
    """(first, last + 1) of the pixels of a row that an operation changes: all, or with
    `masked` those of `spans.find_spans`."""
    begin, end = row * 0, row * 0 + SIZE
    if masked & (tl.load(g + 6) == 0) & (tl.load(g + 7) == 0):
        v = row.to(tl.float64) + 0.5
        for axis in tl.static_range(2):
            step = tl.load(g + 3 * axis).to(tl.float64)
            at = step * 0.5 + tl.load(g + 3 * axis + 1).to(tl.float64) * v
            at += tl.load(g + 3 * axis + 2).to(tl.float64)
            low, high = tl.load(box + axis) - at, tl.load(box + axis + 2) - at
            if step == 0:
                end = tl.where((low > 0) | (high <= 0), 0, end)
            else:
                one, other = low / step, high / step
                first = tl.ceil(tl.maximum(tl.minimum(one, other) - 1e-3, 0.0))
                last = tl.floor(tl.minimum(tl.maximum(one, other) + 1e-3, SIZE * 1.0))
                begin = tl.maximum(begin, tl.minimum(first, SIZE * 1.0).to(tl.int32))
                end = tl.minimum(end, tl.maximum(last, -1.0).to(tl.int32) + 1)
    return begin, tl.maximum(begin, end)


@triton.jit
def _tile(i, SIZE: tl.constexpr, BY: tl.constexpr, BX: tl.constexpr):
    """(columns, rows) of the pixels of the i-th tile of a picture."""
    ACROSS: tl.constexpr = (SIZE + BX - 1) // BX
    pixel = tl.arange(0, BY * BX)
    return i % ACROSS * BX + pixel % BX, i // ACROSS * BY + pixel // BX


@triton.jit
def _counts(
    plane, g, box, masked, SIZE: tl.constexpr, BY: tl.constexpr, BX: tl.constexpr
):  # fmt: skip
    """How often each level occurs in one channel of a picture, int32 [256]."""
    TILES: tl.constexpr = ((SIZE + BX - 1) // BX) * ((SIZE + BY - 1) // BY)
    counts = tl.zeros([256], tl.int32)
    outside = 0
    for i in range(TILES):
        column, row = _tile(i, SIZE, BY, BX)
        begin, end = _span(g, box, row, masked, SIZE)
        inside = (column >= begin) & (column < end) & (row < SIZE)
        level = tl.load(plane + (row * SIZE + column), mask=inside, other=0).to(tl.int32)
        counts += tl.histogram(level, 256)
        outside += BY * BX - tl.sum(inside.to(tl.int32))
    return tl.where(tl.arange(0, 256) == 0, counts - outside, counts)


@triton.jit
def _gray_mean(
    picture, g, box, masked, SIZE: tl.constexpr, BY: tl.constexpr, BX: tl.constexpr
):  # fmt: skip
    """The mean luma of a picture in float32."""
    TILES: tl.constexpr = ((SIZE + BX - 1) // BX) * ((SIZE + BY - 1) // BY)
    total, pixels = tl.load(box).to(tl.int64) * 0, 0
    for i in range(TILES):
        column, row = _tile(i, SIZE, BY, BX)
        begin, end = _span(g, box, row, masked, SIZE)
        inside = (column >= begin) & (column < end) & (row < SIZE)
        red, green, blue = _levels(picture, column, row, inside, SIZE)
        total += tl.sum(_gray(red, green, blue).to(tl.int32)).to(tl.int64)
        pixels += tl.sum(inside.to(tl.int32))
    mean = total.to(tl.float64) / tl.maximum(pixels, 1).to(tl.float64)
    return mean.to(tl.float32)
