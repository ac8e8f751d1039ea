"""Which stored pixels make an output pixel, along one axis: positions and weights of the triangle
filter; numba.

In: where the output begins in stored pixels, its step, the part of the image that exists. Out:
first tap and weights per output pixel. The semantics (support, clip, borders) are those of
`slipform.pipelines.plan.plan`.
"""

from __future__ import annotations

import numpy as np

from slipform.pipelines.kernel import kernel

ZERO, REFLECT, EDGE = 0, 1, 2
BORDERS = {"zero": ZERO, "reflect": REFLECT, "edge": EDGE}


@kernel
def num_taps(step, start, low, high):
    """The most taps any output pixel has: 1 for a shift by whole pixels, else the triangle's width,
    within low..high."""
    if abs(step) == 1.0 and start == np.floor(start):
        return 1
    return max(1, min(2 if abs(step) <= 1.0 else int(np.ceil(2 * abs(step))) + 1, high - low))


@kernel
def axis_taps(start, step, low, high, border, first, weights, count):
    """Fill first int64 [>= count] and weights float32 [>= count, taps] for outputs centerd at start
    + (i + 0.5) * step.

    Taps lie in low..high-1, always first..first + taps - 1, unneeded ones with weight 0; the
    weights of a pixel sum to 1, or are all 0 outside under border ZERO.
    """
    taps = weights.shape[1]
    support = max(1.0, abs(step))
    # Outermost output pixels' centers, which edge and reflect turn about.
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
            weight = max(0.0, 1.0 - abs(begin + k + 0.5 - center) / support)
            total += weight
            weights[i, k] = weight
        for k in range(taps):
            weights[i, k] /= total
        first[i] = begin


@kernel
def reduced_size(matrix, size, height, width):
    """(height, width) to which an image is reduced before it is warped: divided by the map's scale
    at the output's center."""
    u = v = size / 2
    depth = matrix[2, 0] * u + matrix[2, 1] * v + matrix[2, 2]
    x = (matrix[0, 0] * u + matrix[0, 1] * v + matrix[0, 2]) / depth
    y = (matrix[1, 0] * u + matrix[1, 1] * v + matrix[1, 2]) / depth
    # Derivatives of the homography: how many stored pixels one output pixel spans along each stored
    # axis.
    scale_x = np.hypot(matrix[0, 0] - x * matrix[2, 0], matrix[0, 1] - x * matrix[2, 1]) / abs(
        depth
    )
    scale_y = np.hypot(matrix[1, 0] - y * matrix[2, 0], matrix[1, 1] - y * matrix[2, 1]) / abs(
        depth
    )
    return max(1, int(np.rint(height / max(1.0, scale_y)))), max(
        1, int(np.rint(width / max(1.0, scale_x)))
    )


@kernel
def reduced_sizes(geometry, size, heights, widths):
    """`reduced_size` of each sample: geometry [N, 3, 3], heights, widths [N] -> int32 [N, 2]."""
    sizes = np.empty((len(geometry), 2), np.int32)
    for i in range(len(geometry)):
        sizes[i] = reduced_size(geometry[i], size, heights[i], widths[i])
    return sizes
