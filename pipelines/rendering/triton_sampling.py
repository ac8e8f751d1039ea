"""Samples of stored pixels in a Triton kernel: boxes of an image, and homographies.

In: an image, the numbers of a Plan, output points. Out: levels 0..255 in float32. The kernels of
`slipform.pipelines.rendering.triton` and `triton_pictures` call these functions.

The pixels of a tile are one vector; see `triton`. Positions are clamped to the image.
"""

from __future__ import annotations

import triton
import triton.language as tl

from slipform.pipelines.rendering.triton_words import add_2, add_4, pixel

__all__ = ["aligned", "clip_of", "geometry_of", "warped"]


@triton.jit
def geometry_of(g):
    """The geometry of a sample, 9 numbers.

    Args:
        g: Where they begin, float32.
    """
    return (
        tl.load(g), tl.load(g + 1), tl.load(g + 2), tl.load(g + 3), tl.load(g + 4), tl.load(g + 5),
        tl.load(g + 6), tl.load(g + 7), tl.load(g + 8),
    )  # fmt: skip


@triton.jit
def clip_of(box):
    """The clip of a sample: (left, top, right, bottom).

    Args:
        box: Where it begins, int32.
    """
    return tl.load(box), tl.load(box + 1), tl.load(box + 2), tl.load(box + 3)


@triton.jit
def aligned(words, first, width, geometry, clip, u, v, BORDER: tl.constexpr):
    """Sample a box of the image, perhaps mirrored.

    Args:
        words, first: The image from `triton_words.image_at`, uint8 [height, width, 3].
        width: Its width in pixels.
        geometry, clip: From `geometry_of` and `clip_of`.
        u, v: Centers of the output pixels of a tile.
        BORDER: As in `taps`.

    Returns:
        (red, green, blue), levels in float32.
    """
    step_x, _, start_x, _, step_y, start_y, _, _, _ = geometry
    left, top, right, bottom = clip
    x, y = start_x + u * step_x, start_y + v * step_y
    wide, high = tl.abs(step_x), tl.abs(step_y)
    some = (right > left) & (bottom > top)
    if BORDER == 0:
        seen_x, seen_y = some & (x >= left) & (x < right), (y >= top) & (y < bottom)
    else:
        x, y = _fold(x, wide, left, right, BORDER), _fold(y, high, top, bottom, BORDER)
        seen_x, seen_y = some & (x == x), y == y
    whole = (wide == 1) & (high == 1)
    whole = whole & (start_x == tl.floor(start_x)) & (start_y == tl.floor(start_y))
    wide, high = tl.maximum(wide, 1.0), tl.maximum(high, 1.0)
    if whole:  # moved by whole pixels
        column, row = _inside(x, left, right), _inside(y, top, bottom)
        red, green, blue = pixel(words, first + 3 * (row * width + column))
        kept = seen_x & seen_y
        red, green = tl.where(kept, red, 0.0), tl.where(kept, green, 0.0)
        blue = tl.where(kept, blue, 0.0)
    elif (wide == 1) & (high == 1):  # not reduced: two pixels along each axis
        column, near_x, far_x = _pair(x, left, right, seen_x)
        row, near_y, far_y = _pair(y, top, bottom, seen_y)
        at = first + 3 * (row * width + column)
        below = at + tl.where(bottom - top > 1, 3 * width, 0)
        zero = near_x * 0 + near_y * 0
        red, green, blue = add_2(words, at, near_y * near_x, near_y * far_x, zero, zero, zero)
        red, green, blue = add_2(words, below, far_y * near_x, far_y * far_x, red, green, blue)
    elif wide <= 2:  # the usual reductions: the weights of a column are computed once
        red, green, blue = _average(
            words, first, width, x, y, wide, high, left, top, right, bottom, seen_x & seen_y, 1
        )
    else:
        groups = (_num_taps(wide) + 3) // 4
        red, green, blue = _average(
            words, first, width, x, y, wide, high, left, top, right, bottom, seen_x & seen_y, groups
        )
    return red, green, blue


@triton.jit
def warped(
    words, first, size, geometry, clip, reduced, u, v, BORDER: tl.constexpr, CUT: tl.constexpr
):  # fmt: skip
    """Sample any homography: bilinear samples of the reduced image. Its pixels are averages of
    stored pixels, computed when they are needed.

    Args:
        words, first, geometry, clip, u, v, BORDER: As for `aligned`.
        size: Height and width of the image in pixels.
        reduced: Height and width of the reduced image.
        CUT: Whether the image is what is inside the clip, as for a policy. If not, points outside
            the clip are black.

    Returns:
        (red, green, blue), levels in float32.
    """
    xx, xy, x1, yx, yy, y1, zx, zy, z1 = geometry
    height, width = size
    depth = zx * u + zy * v + z1
    small_height, small_width = reduced
    first_x, first_y, last_x, last_y = 0, 0, width, height
    if CUT:
        first_x, first_y, last_x, last_y = clip
    step_x = (last_x - first_x) / small_width.to(tl.float32)
    step_y = (last_y - first_y) / small_height.to(tl.float32)
    x = (xx * u + xy * v + x1) / depth
    if CUT:
        x -= first_x
    x = x / step_x - 0.5
    y = (yx * u + yy * v + y1) / depth
    if CUT:
        y -= first_y
    y = y / step_y - 0.5
    x = tl.where(depth > 0, tl.minimum(tl.maximum(x, -1e6), 1e6), -1e6)
    y = tl.minimum(tl.maximum(y, -1e6), 1e6)
    if CUT:
        seen = depth == depth
    else:
        left, top, right, bottom = clip
        from_x, from_y = (x + 0.5) * step_x, (y + 0.5) * step_y
        seen = ((left <= 0) | (from_x >= left)) & ((right >= width) | (from_x < right))
        seen = seen & ((top <= 0) | (from_y >= top)) & ((bottom >= height) | (from_y < bottom))
    i, j = tl.floor(x), tl.floor(y)
    part_x, part_y = x - i, y - j
    near_x, inside_near = _outside(i.to(tl.int32), small_width, BORDER)
    far_x, inside_far = _outside(i.to(tl.int32) + 1, small_width, BORDER)
    weight_near = tl.where(inside_near & seen, 1 - part_x, 0.0)
    weight_far = tl.where(inside_far & seen, part_x, 0.0)
    red, green, blue = x * 0, x * 0, x * 0
    if (step_x == 1) & (step_y == 1):
        # Both columns are neighbors, or the same one. The pair of pixels that has both:
        column = tl.maximum(tl.minimum(tl.minimum(near_x, far_x), small_width - 2), 0)
        a = tl.where(near_x == column, weight_near, 0.0)
        a += tl.where(far_x == column, weight_far, 0.0)
        b = tl.where(near_x == column + 1, weight_near, 0.0)
        b += tl.where(far_x == column + 1, weight_far, 0.0)
        for tap in range(2):
            at_y, inside_y = _outside(j.to(tl.int32) + tap, small_height, BORDER)
            weight = tl.where(inside_y, tl.where(tap == 1, part_y, 1 - part_y), 0.0)
            at_y = tl.minimum(tl.maximum(at_y, 0), small_height - 1)
            at = first + 3 * ((at_y + first_y) * width + (column + first_x))
            red, green, blue = add_2(words, at, weight * a, weight * b, red, green, blue)
    else:
        groups = (_num_taps(step_x) + 3) // 4
        for tap in range(4):
            at_y, inside_y = _outside(j.to(tl.int32) + tap // 2, small_height, BORDER)
            weight = tl.where(tap // 2 == 1, part_y, 1 - part_y)
            weight *= tl.where(tap % 2 == 1, weight_far, weight_near)
            weight = tl.where(inside_y, weight, 0.0)
            from_x = (tl.where(tap % 2 == 1, far_x, near_x) + 0.5) * step_x + first_x
            from_y = (at_y + 0.5) * step_y + first_y
            r, gr, bl = _average(
                words, first, width, from_x, from_y, step_x, step_y,
                first_x, first_y, last_x, last_y, seen, groups,
            )  # fmt: skip
            red += weight * r
            green += weight * gr
            blue += weight * bl
    return red, green, blue


@triton.jit
def _num_taps(support):
    """The largest number of pixels whose centers are inside an open interval of 2 * support."""
    return tl.ceil(2 * support).to(tl.int32)


@triton.jit
def _inside(center, low, high):
    """The pixel that has a point, or the nearest one in low..high."""
    return tl.minimum(tl.maximum(tl.floor(center).to(tl.int32), low), tl.maximum(high - 1, low))


@triton.jit
def _pair(center, low, high, seen):
    """The first of the two pixels of low..high about a point, and their weights.

    The weights are those of a triangle of half width 1. Their sum is 1, or 0 if the point is not
    seen.
    """
    first = tl.floor(center - 0.5).to(tl.int32)
    first = tl.maximum(tl.minimum(first, high - 2), low)
    offset = center - (first + 0.5)
    near = tl.maximum(1.0 - tl.abs(offset), 0.0)
    far = tl.where(high - low > 1, tl.maximum(1.0 - tl.abs(offset - 1.0), 0.0), 0.0)
    share = tl.where(seen, 1.0 / tl.maximum(near + far, 1e-12), 0.0)
    return first, near * share, far * share


@triton.jit
def _average(
    words, first, width, x, y, wide, high, left, top, right, bottom, seen, groups
):  # fmt: skip
    """The mean (r, g, b) of stored pixels, weighted by a triangle about (x, y).

    wide and high, both >= 1, are half the width and height of the triangle. Only the pixels in
    left..right and top..bottom count. The mean of no pixels is 0, also where `seen` is False. The
    pixels of a row are read in `groups` of four.
    """
    per_x, per_y = 1.0 / wide, 1.0 / high
    first_x = tl.floor(x - wide + 0.5).to(tl.int32)
    first_y = tl.floor(y - high + 0.5).to(tl.int32)
    red, green, blue = x * 0 + y * 0, x * 0 + y * 0, x * 0 + y * 0
    total_x, total_y = x * 0, y * 0
    for ky in range(_num_taps(high)):
        row = first_y + ky
        weight_y = tl.maximum(1.0 - tl.abs(row + 0.5 - y) * per_y, 0.0)
        weight_y = tl.where((row >= top) & (row < bottom), weight_y, 0.0)
        total_y += weight_y
        at_row = first + tl.minimum(tl.maximum(row, top), bottom - 1) * (3 * width)
        line_red, line_green, line_blue = red * 0, red * 0, red * 0
        line_total = x * 0
        for k in range(groups):
            low = tl.maximum(first_x + 4 * k, left)
            end = tl.minimum(first_x + 4 * k + 4, right)
            column = tl.maximum(tl.minimum(low, right - 4), left)
            a = _weight(column, x, per_x, low, end)
            b = _weight(column + 1, x, per_x, low, end)
            c = _weight(column + 2, x, per_x, low, end)
            d = _weight(column + 3, x, per_x, low, end)
            line_total += (a + b) + (c + d)
            line_red, line_green, line_blue = add_4(
                words, at_row + 3 * column, a, b, c, d, line_red, line_green, line_blue
            )
        total_x = line_total
        red += weight_y * line_red
        green += weight_y * line_green
        blue += weight_y * line_blue
    share = tl.where(seen, 1.0 / tl.maximum(total_x * total_y, 1e-12), 0.0)
    return red * share, green * share, blue * share


@triton.jit
def _weight(column, x, per_x, low, end):
    """The weight of a column, 0 outside low..end."""
    weight = tl.maximum(1.0 - tl.abs(column + 0.5 - x) * per_x, 0.0)
    return tl.where((column >= low) & (column < end), weight, 0.0)


@triton.jit
def _fold(center, step, low, high, BORDER: tl.constexpr):
    """Move centers outside low..high inside, as `taps.axis_taps` does for edge and reflect."""
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
