"""Spans: the parts of a picture that an operation of a policy sees. Compiled by numba.

In: the map of a chain, the part of the image that is used. Out: int64 [S, 2], the first value of
each span in the flat picture and the value after its last one. Spans begin and end between pixels.
"""

from __future__ import annotations

import numpy as np

from slipform.pipelines.kernel import kernel
from slipform.pipelines.plan.operations import BRIGHTNESS

__all__ = ["find_spans", "last_move", "whole_span"]

_IDENTITY = 0


@kernel
def whole_span(size):
    """The one span that is the whole picture.

    Args:
        size: Side of the picture in pixels.
    """
    span = np.zeros((1, 2), np.int64)
    span[0, 1] = 3 * size * size
    return span


@kernel
def last_move(codes, i, c):
    """The position of the last operation on positions. -1: there is none.

    Args:
        codes: uint8 [N, C, K], as in `Chains`.
        i, c: Sample and chain.
    """
    last = -1
    for k in range(codes.shape[2]):
        if _IDENTITY < codes[i, c, k] < BRIGHTNESS:
            last = k
    return last


@kernel
def find_spans(matrix, clip, size, spans):
    """The pixels of each row whose centers are inside `clip`. If the map is no affine one: all.

    Args:
        matrix: [3, 3], output point -> stored point.
        clip: int32 [4] (x0, y0, x1, y1), the stored pixels that are used.
        size: Side of the picture in pixels.
        spans: Output, int64 [size, 2], one of each row.
    """
    flat = matrix[2, 0] == 0 and matrix[2, 1] == 0
    for j in range(size):
        begin, end = 0, size
        for axis in range(2 if flat else 0):
            step = matrix[axis, 0]
            at = step * 0.5 + matrix[axis, 1] * (j + 0.5) + matrix[axis, 2]
            low, high = clip[axis] - at, clip[axis + 2] - at
            if step == 0:
                if low > 0 or high <= 0:
                    end = 0
                continue
            first, last = min(low / step, high / step), max(low / step, high / step)
            # A thousandth of a pixel for rounding. The limits keep whole numbers small.
            begin = max(begin, int(np.ceil(min(max(first - 1e-3, 0.0), size))))
            end = min(end, int(np.floor(max(min(last + 1e-3, size), -1.0))) + 1)
        end = max(begin, end)
        spans[j, 0], spans[j, 1] = 3 * (size * j + begin), 3 * (size * j + end)
