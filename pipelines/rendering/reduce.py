"""The first step of a warp: the image, reduced to about the size of the output, in a black frame.

In: uint8 pixels, a map from output points to stored points. Out: float32 pixels with black around
them, and the map to points among them. Compiled by numba.
"""

from __future__ import annotations

import numpy as np

from slipform.pipelines.kernel import kernel
from slipform.pipelines.rendering.resample import resample
from slipform.pipelines.rendering.taps import ZERO
from slipform.pipelines.simd import load_levels
from slipform.pipelines.stores import FLOAT32, store8

__all__ = ["moved_to", "reduce"]


@kernel
def moved_to(matrix, box, height, width):
    """The map from output points to points of a reduced box.

    Args:
        matrix: float64 [3, 3], output point -> stored point.
        box: int32 [4] (x0, y0, x1, y1), in stored pixels.
        height, width: The size to which the box is reduced, in pixels.

    Returns:
        float64 [3, 3].
    """
    m = matrix.copy()
    m[0] -= box[0] * m[2]
    m[1] -= box[1] * m[2]
    m[0] /= (box[2] - box[0]) / width
    m[1] /= (box[3] - box[1]) / height
    return m


@kernel
def reduce(image, box, height, width, cubic, frame, scratch):
    """Reduce a box of an image.

    Args:
        image: uint8 [H, W * 3].
        box: int32 [4] (x0, y0, x1, y1), in stored pixels.
        height, width: The size to which the box is reduced, in pixels.
        cubic: Whether the filter is cubic.
        frame: Width of the black frame in pixels.
        scratch: Memory for the pixels, float32.

    Returns:
        float32, flat, rows of `width` + 2 * `frame` pixels of four values (r, g, b, any):
        `scratch`, or a larger array if it was too small.
    """
    stride = (width + 2 * frame) * 4
    length = (height + 2 * frame) * stride + 8
    small = scratch if len(scratch) >= length else np.empty(length, np.float32)
    dx, dy = (box[2] - box[0]) / width, (box[3] - box[1]) / height
    begin = frame * stride + frame * 4
    if dx == 1 and dy == 1:
        pairs = (3 * width - 2) // 6  # which have two bytes behind them
        for j in range(height):
            source, at = image[box[1] + j, 3 * box[0] : 3 * box[2]], begin + j * stride
            for pair in range(pairs):
                store8(FLOAT32, small, None, at + 8 * pair, load_levels(source, 6 * pair))
            for i in range(2 * pairs, width):
                for c in range(3):
                    small[at + 4 * i + c] = source[3 * i + c]
    else:
        resample(
            image, float(box[0]), dx, width, float(box[1]), dy, height, box, ZERO, cubic, None,
            FLOAT32, small, None, begin, stride,
        )  # fmt: skip
    # A row of an odd number of pixels wrote one more, which is a part of the frame.
    small[: frame * stride] = 0
    small[(height + frame) * stride : length] = 0
    for j in range(frame, height + frame):
        small[j * stride : j * stride + frame * 4] = 0
        small[(j + 1) * stride - frame * 4 : (j + 1) * stride] = 0
    return small
