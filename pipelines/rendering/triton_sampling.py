"""Samples of stored pixels in a Triton kernel: boxes of an image, and homographies.

In: an image, the numbers of a Plan, output points. Out: levels 0..255 in float32. The kernels of
`slipform.pipelines.rendering.triton` and `triton_pictures` call these functions.

The pixels of a tile are one vector; see `triton`. Positions are clamped to the image, so loads need
no mask. Positions inside an image have 32 bits.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["aligned", "warped"]


@triton.jit
def aligned(image, width, g, box, u, v, BORDER: tl.constexpr):
    """Sample a box of the image, perhaps mirrored.

    Args:
        image: Where the image begins, uint8 [height, width, 3].
        width: Its width in pixels.
        g: Where the geometry begins, float32 [9].
        box: The numbers of the sample: clip, erased box, reduced height and width, int32 [10].
        u, v: Centers of the output pixels of a tile.
        BORDER: As in `taps`.

    Returns:
        (red, green, blue), levels in float32.
    """
    step_x, start_x, step_y, start_y = tl.load(g), tl.load(g + 2), tl.load(g + 4), tl.load(g + 5)
    left, top, right, bottom = _clip_of(box)
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
def warped(image, height, width, g, box, u, v, BORDER: tl.constexpr, CUT: tl.constexpr):
    """Sample any homography: bilinear samples of the reduced image. Its pixels are averages of
    stored pixels, computed when they are needed.

    Args:
        image, width, g, box, u, v, BORDER: As for `aligned`.
        height: Height of the image in pixels.
        CUT: Whether the image is what is inside the clip, as for a policy. If not, points outside
            the clip are black.

    Returns:
        (red, green, blue), levels in float32.
    """
    depth = tl.load(g + 6) * u + tl.load(g + 7) * v + tl.load(g + 8)
    small_height, small_width = tl.load(box + 8), tl.load(box + 9)
    first_x, first_y, last_x, last_y = 0, 0, width, height
    if CUT:
        first_x, first_y, last_x, last_y = _clip_of(box)
    step_x = (last_x - first_x) / small_width.to(tl.float32)
    step_y = (last_y - first_y) / small_height.to(tl.float32)
    x = (tl.load(g) * u + tl.load(g + 1) * v + tl.load(g + 2)) / depth
    if CUT:
        x -= first_x
    x = x / step_x - 0.5
    y = (tl.load(g + 3) * u + tl.load(g + 4) * v + tl.load(g + 5)) / depth
    if CUT:
        y -= first_y
    y = y / step_y - 0.5
    x = tl.where(depth > 0, tl.minimum(tl.maximum(x, -1e6), 1e6), -1e6)
    y = tl.minimum(tl.maximum(y, -1e6), 1e6)
    if CUT:
        seen = depth == depth
    else:
        left, top, right, bottom = _clip_of(box)
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
        if CUT:
            from_x, from_y = from_x + first_x, from_y + first_y
        if (step_x == 1) & (step_y == 1):
            r, gr, b = _average(
                image, width, from_x, from_y, 1.0, 1.0, first_x, first_y, last_x, last_y, 1, 1
            )
        else:
            taps_x, taps_y = _num_taps(step_x), _num_taps(step_y)
            r, gr, b = _average(
                image, width, from_x, from_y, step_x, step_y, first_x, first_y, last_x, last_y,
                taps_x, taps_y,
            )  # fmt: skip
        red += weight * r
        green += weight * gr
        blue += weight * b
    return red, green, blue


@triton.jit
def _clip_of(box):
    return tl.load(box), tl.load(box + 1), tl.load(box + 2), tl.load(box + 3)


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
