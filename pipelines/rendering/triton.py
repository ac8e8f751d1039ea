"""Stored pixels in a GPU's memory -> the net's input, in one Triton kernel: resample or warp,
color, round.

In: uint8 pixels of many images in one buffer, and a Plan's numbers on the device. Out: [N, S, S, 3]
in float32, bfloat16 or float16. It computes what `render` does on a CPU, in the words of
`slipform.pipelines.plan.plan`; each thread makes one output pixel. Where a warp reduces, the four
taps of the reduced image are themselves averaged from stored pixels, on the fly.
"""

from __future__ import annotations

import triton
import triton.language as tl

BLOCK = 256


@triton.jit
def render(
    pixels,
    offsets,
    sizes,
    geometry,
    color,
    boxes,
    reduced,
    out,
    size,
    BORDER: tl.constexpr,
    ALIGNED: tl.constexpr,
    ERASE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Grid (N, pixels of the output / BLOCK).

    offsets int64 [N]; sizes int32 [N, 2] (height, width); geometry float32 [N, 9]; color float32
    [N, 12]; boxes int32 [N, 8] (clip, erase); reduced int32 [N, 2] (height, width of the reduced
    image, for warps); BORDER as in `taps`.
    """
    n = tl.program_id(0)
    p = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    live = p < size * size
    base = pixels + tl.load(offsets + n)
    height, width = tl.load(sizes + 2 * n), tl.load(sizes + 2 * n + 1)
    g, u, v = geometry + 9 * n, (p % size) + 0.5, (p // size) + 0.5
    x = tl.load(g) * u + tl.load(g + 1) * v + tl.load(g + 2)
    y = tl.load(g + 3) * u + tl.load(g + 4) * v + tl.load(g + 5)
    if ALIGNED:
        step_x, step_y = tl.load(g), tl.load(g + 4)
        left, top = tl.load(boxes + 8 * n), tl.load(boxes + 8 * n + 1)
        right, bottom = tl.load(boxes + 8 * n + 2), tl.load(boxes + 8 * n + 3)
        seen = live
        if BORDER == 0:
            seen = live & (x >= left) & (x < right) & (y >= top) & (y < bottom)
        x = _fold(x, tl.abs(step_x), left, right, BORDER)
        y = _fold(y, tl.abs(step_y), top, bottom, BORDER)
        red, green, blue = _average(
            base, width, x, y, step_x, step_y, left, top, right, bottom, seen
        )
    else:
        depth = tl.load(g + 6) * u + tl.load(g + 7) * v + tl.load(g + 8)
        small_height, small_width = tl.load(reduced + 2 * n), tl.load(reduced + 2 * n + 1)
        step_x, step_y = width / small_width.to(tl.float32), height / small_height.to(tl.float32)
        x, y = x / depth / step_x - 0.5, y / depth / step_y - 0.5
        x = tl.where(depth > 0, tl.minimum(tl.maximum(x, -1e6), 1e6), -1e6)
        y = tl.minimum(tl.maximum(y, -1e6), 1e6)
        i, j = tl.floor(x), tl.floor(y)
        fx, fy = x - i, y - j
        red, green, blue = fx * 0, fx * 0, fx * 0
        for tap in tl.static_range(4):
            at_x, seen_x = _outside(i.to(tl.int32) + tap % 2, small_width, BORDER)
            at_y, seen_y = _outside(j.to(tl.int32) + tap // 2, small_height, BORDER)
            weight = (fx if tap % 2 == 1 else 1 - fx) * (fy if tap // 2 == 1 else 1 - fy)
            r, gr, b = _average(
                base,
                width,
                (at_x + 0.5) * step_x,
                (at_y + 0.5) * step_y,
                step_x,
                step_y,
                0,
                0,
                width,
                height,
                live & seen_x & seen_y,
            )
            red += weight * r
            green += weight * gr
            blue += weight * b
    erased = p < 0
    if ERASE:
        column, row = p % size, p // size
        erased = (column >= tl.load(boxes + 8 * n + 4)) & (row >= tl.load(boxes + 8 * n + 5))
        erased &= (column < tl.load(boxes + 8 * n + 6)) & (row < tl.load(boxes + 8 * n + 7))
    for channel in tl.static_range(3):
        m = color + 12 * n + 4 * channel
        value = tl.load(m) * red + tl.load(m + 1) * green + tl.load(m + 2) * blue + tl.load(m + 3)
        value = tl.where(erased, 0.0, value)
        tl.store(
            out + (n.to(tl.int64) * size * size + p) * 3 + channel,
            value.to(out.dtype.element_ty),
            mask=live,
        )


@triton.jit
def _average(base, width, x, y, step_x, step_y, left, top, right, bottom, seen):
    """The triangle-weighted mean (r, g, b) of stored pixels about (x, y), of those in left..right
    and top..bottom; else 0."""
    support_x, support_y = tl.maximum(tl.abs(step_x), 1.0), tl.maximum(tl.abs(step_y), 1.0)
    taps_x, taps_y = (
        tl.ceil(2 * support_x).to(tl.int32) + 1,
        tl.ceil(2 * support_y).to(tl.int32) + 1,
    )
    first_x, first_y = (
        tl.floor(x - support_x + 0.5).to(tl.int32),
        tl.floor(y - support_y + 0.5).to(tl.int32),
    )
    red, green, blue, total = x * 0, x * 0, x * 0, x * 0
    for ky in range(taps_y):
        row = first_y + ky
        weight_y = 1 - tl.abs(row + 0.5 - y) / support_y
        for kx in range(taps_x):
            column = first_x + kx
            weight = (1 - tl.abs(column + 0.5 - x) / support_x) * weight_y
            used = seen & (column >= left) & (column < right) & (row >= top) & (row < bottom)
            used &= (weight_y > 0) & (weight > 0)
            at = base + (row.to(tl.int64) * width + column) * 3
            weight = tl.where(used, weight, 0.0)
            red += weight * tl.load(at, mask=used, other=0)
            green += weight * tl.load(at + 1, mask=used, other=0)
            blue += weight * tl.load(at + 2, mask=used, other=0)
            total += weight
    total = tl.maximum(total, 1e-12)
    return red / total, green / total, blue / total


@triton.jit
def _fold(center, step, low, high, BORDER: tl.constexpr):
    """Centers outside low..high brought inside, as `taps.axis_taps` does for edge and reflect."""
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
    """(the stored index that stands for `index`, whether there is one)."""
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
