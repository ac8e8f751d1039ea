"""The filter along one axis: which stored pixels an output pixel uses, and their weights.

Compiled by numba. The filter is a triangle, or cubic (Keys, "Cubic Convolution Interpolation for
Digital Image Processing", 1981, a = -0.5), as in Pillow and torchvision with antialias=True.

In: where the output begins in stored pixels, its step, the part of the image that exists. Out: the
first tap and the weights of each output pixel. A tap is a stored pixel that is used. Support, clip
and borders are those of `slipform.pipelines.plan.plan`.
"""

from __future__ import annotations

import numpy as np

from slipform.pipelines.kernel import kernel

__all__ = [
    "BORDERS",
    "EDGE",
    "REFLECT",
    "ZERO",
    "axis_taps",
    "num_taps",
    "reduced_size",
    "reduced_sizes",
]

ZERO, REFLECT, EDGE = 0, 1, 2
BORDERS = {"zero": ZERO, "reflect": REFLECT, "edge": EDGE}


@kernel
def num_taps(step, start, low, high, cubic):
    """The largest number of taps of an output pixel.

    Args:
        step: Stored pixels per output pixel. Negative: mirrored.
        start: The position in stored pixels where the output begins.
        low, high: The stored pixels that may be used are low..high - 1.
        cubic: Whether the filter is cubic.

    Returns:
        1 for a shift by whole pixels, else the width of the filter, at most high - low.
    """
    if abs(step) == 1.0 and start == np.floor(start):
        return 1
    width = 4 if cubic else 2
    return max(
        1, min(width if abs(step) <= 1.0 else int(np.ceil(width * abs(step))) + 1, high - low)
    )


@kernel
def axis_taps(start, step, low, high, border, limit, first, weights, count):
    """Compute the taps and weights of all output pixels along one axis.

    The center of output pixel i is start + (i + 0.5) * step. Its taps are the stored pixels
    first[i]..first[i] + taps - 1. Their weights sum to 1. Outside the image with border ZERO all
    weights are 0.

    Args:
        start: The position in stored pixels where the output begins.
        step: Stored pixels per output pixel. Negative: mirrored.
        low, high: The stored pixels that may be used are low..high - 1.
        border: ZERO, REFLECT or EDGE.
        limit: None: the filter is a triangle. Otherwise it is cubic. The type selects the filter,
            since a branch in the innermost loop takes as long as the triangle.
        first: Output, int64 [count or more].
        weights: Output, float32 [count or more, taps], with `num_taps` taps.
        count: Number of output pixels.
    """
    taps = weights.shape[1]
    scale = max(1.0, abs(step))
    support = scale if limit is None else 2 * scale
    # The centers of the outermost output pixels: `edge` repeats them, `reflect` mirrors about them.
    inner_low, inner_high = low + 0.5 * abs(step), high - 0.5 * abs(step)
    for i in range(count):
        center = start + (i + 0.5) * step
        if center < low or center >= high:
            if border == ZERO:
                first[i] = low
                weights[i, :] = 0.0
                continue
            if inner_high <= inner_low:
                center = 0.5 * (low + high)
            elif border == EDGE:
                center = min(max(center, inner_low), inner_high)
            else:
                period = 2 * (inner_high - inner_low)
                phase = (center - inner_low) % period
                center = inner_low + min(phase, period - phase)
        begin = max(low, min(int(np.floor(center - support + 0.5)), high - taps))
        if taps == 1:
            begin = max(low, min(int(np.floor(center)), high - 1))
        total = 0.0
        for k in range(taps):
            distance = abs(begin + k + 0.5 - center) / scale
            weight = max(0.0, 1.0 - distance) if limit is None else _keys(distance)
            total += weight
            weights[i, k] = weight
        for k in range(taps):
            weights[i, k] /= total
        first[i] = begin


@kernel
def _keys(distance):
    """The cubic filter at a distance in pixels."""
    if distance < 1.0:
        return (1.5 * distance - 2.5) * distance * distance + 1.0
    if distance < 2.0:
        return ((-0.5 * distance + 2.5) * distance - 4.0) * distance + 2.0
    return 0.0


@kernel
def reduced_size(matrix, size, height, width, enlarge=False):
    """The size to which an image is reduced before it is warped.

    It is the stored size divided by the scale of the map at the center of the output.

    Args:
        matrix: [3, 3], output point -> stored point.
        size: Side of the output in pixels.
        height, width: Size of the stored image in pixels.
        enlarge: Whether the image is enlarged, too, if the map enlarges: at most to `size`.

    Returns:
        (height, width) in pixels, each 1 or more. Without `enlarge` the stored size at most.
    """
    u = v = size / 2
    depth = matrix[2, 0] * u + matrix[2, 1] * v + matrix[2, 2]
    x = (matrix[0, 0] * u + matrix[0, 1] * v + matrix[0, 2]) / depth
    y = (matrix[1, 0] * u + matrix[1, 1] * v + matrix[1, 2]) / depth
    # Derivatives of the homography: stored pixels per output pixel along each stored axis.
    scale_x = np.hypot(matrix[0, 0] - x * matrix[2, 0], matrix[0, 1] - x * matrix[2, 1])
    scale_y = np.hypot(matrix[1, 0] - y * matrix[2, 0], matrix[1, 1] - y * matrix[2, 1])
    scale_x, scale_y = scale_x / abs(depth), scale_y / abs(depth)
    least_y = min(1.0, height / size) if enlarge else 1.0
    least_x = min(1.0, width / size) if enlarge else 1.0
    reduced_height = max(1, int(np.rint(height / max(least_y, scale_y))))
    reduced_width = max(1, int(np.rint(width / max(least_x, scale_x))))
    return reduced_height, reduced_width


@kernel
def reduced_sizes(geometry, size, heights, widths):
    """`reduced_size` of each sample.

    Args:
        geometry: [N, 3, 3], output point -> stored point.
        size: Side of the output in pixels.
        heights, widths: [N], sizes of the stored images in pixels.

    Returns:
        int32 [N, 2], (height, width) in pixels.
    """
    sizes = np.empty((len(geometry), 2), np.int32)
    for i in range(len(geometry)):
        sizes[i] = reduced_size(geometry[i], size, heights[i], widths[i])
    return sizes
