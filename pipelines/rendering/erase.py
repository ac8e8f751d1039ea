"""Erased boxes of output images, on CPU cores. Compiled by numba.

In: an output image and a box. Out: the same memory. The box is filled with the mean color (0), with
one normal color, or with a normal color for each pixel, as timm's RandomErasing does.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from slipform.pipelines.kernel import kernel
from slipform.pipelines.plan.erasing import MODES, normals
from slipform.pipelines.plan.plan import Plan
from slipform.pipelines.rendering.output import copy_row
from slipform.pipelines.simd import load_pixels
from slipform.pipelines.stores import FLOAT32, store

__all__ = ["erase_box", "erased"]

_CONST, _PIXEL = 0, 2
_NO_BOXES, _NO_KEYS = np.zeros((0, 4), np.int32), np.zeros(0, np.uint64)


def erased(plan: Plan) -> tuple[npt.NDArray[np.int32], int, npt.NDArray[np.uint64]]:
    """The erased boxes of a Plan in the form of the kernels.

    Args:
        plan: The Plan of N samples.

    Returns:
        int32 [N, 4] (x0, y0, x1, y1), or [0, 4] if nothing is erased; the code of the mode; uint64
        [N] keys of the noise, or [0].
    """
    boxes = _NO_BOXES if plan.erase is None else plan.erase
    return boxes, MODES[plan.erase_mode], _NO_KEYS if plan.erase_keys is None else plan.erase_keys


@kernel
def erase_box(boxes, mode, keys, i, size, kind, out32, out16):
    """Fill the box of an output image.

    Args:
        boxes, mode, keys: From `erased`; there are boxes.
        i: The sample.
        size: Side of the output in pixels.
        kind: FLOAT32, BFLOAT16 or FLOAT16 of `stores`.
        out32, out16: Outputs, flat, as for `resample`.
    """
    box, base = boxes[i], i * size * size * 3
    key = keys[i] if len(keys) else np.uint64(0)
    count = 3 * (box[2] - box[0])
    if count <= 0:
        return
    row32, row16 = np.zeros(count + 8, np.float32), np.zeros(count + 8, np.uint16)
    number = np.uint64(0)
    for row in range(box[1], box[3]):
        if mode == _PIXEL or (mode != _CONST and row == box[1]):
            for at in range(0, count, 3):
                row32[at], row32[at + 1], row32[at + 2] = normals(key, number)
                if mode == _PIXEL:
                    number += np.uint64(1)
            if kind != FLOAT32:
                for at in range(0, count, 6):
                    store(kind, row32, row16, at, load_pixels(row32, at, at + 3))
        at = base + (row * size + box[0]) * 3
        copy_row(kind, row32, row16, out32, out16, at, count)
