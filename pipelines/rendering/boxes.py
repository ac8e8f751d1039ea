"""Copies of boxes of images into one buffer. Compiled by numba.

In: addresses of uint8 [H, W, 3] images, and a box of each. Out: the pixels of the boxes, one after
another.
"""

from __future__ import annotations

import numpy as np
from numba import carray

from slipform.pipelines.kernel import kernel
from slipform.pipelines.rendering.render import pointer

__all__ = ["copy_boxes"]


@kernel
def copy_boxes(addresses, widths, boxes, out, starts):
    """Copy a box of each image.

    Args:
        addresses: int64 [N], addresses of contiguous uint8 [H, W, 3] images.
        widths: int32 [N], widths of the images in pixels.
        boxes: int32 [N, 4] (x0, y0, x1, y1), in pixels of each image.
        out: Output, uint8.
        starts: int64 [N], where each box begins in `out`.
    """
    for i in range(len(addresses)):
        x0, y0, x1, y1 = boxes[i]
        line, at = (x1 - x0) * 3, starts[i]
        image = carray(pointer(addresses[i]), (y1, widths[i] * 3), np.uint8)
        for y in range(y0, y1):
            out[at : at + line] = image[y, x0 * 3 : x1 * 3]
            at += line
