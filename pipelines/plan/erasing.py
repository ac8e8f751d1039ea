"""Erased boxes: where they are, and the noise in them, normal numbers for each pixel.

In: seed, epoch, samples. Out: a box and a key for each sample. From the key: three normal numbers
for each pixel. The code is compiled by numba. Boxes have the draws 10 and 20..29 of a sample, keys
have draw 31.
"""

from __future__ import annotations

import numpy as np

from slipform.pipelines.kernel import kernel
from slipform.pipelines.plan.philox import philox, uniforms

__all__ = ["MODES", "draw_box", "draw_keys", "normals"]

# The codes of `Augmentation.erase_mode`.
MODES = {"const": 0, "rand": 1, "pixel": 2}
_MASK, _32, _ZERO = np.uint64(0xFFFFFFFF), np.uint64(32), np.uint64(0)
_TO_UNIT = 1.0 / 4294967296.0


@kernel
def draw_box(numbers, key, epoch, sample, out, i):
    """Draw the box of a sample that is erased: torchvision's RandomErasing with its default scale
    (0.02, 0.33) and ratio (0.3, 3.3).

    Args:
        numbers: A record of `kernels.NUMBERS`.
        key, epoch, sample: uint64.
        out: Output, int32 [N, 4] (x0, y0, x1, y1), in output pixels. All 0: no attempt fits.
        i: Position of the sample in `out`.
    """
    out[i, 0], out[i, 1], out[i, 2], out[i, 3] = 0, 0, 0, 0
    size = numbers.image_size
    for attempt in range(10):
        u = uniforms(key, epoch, sample, np.uint64(20 + attempt))
        area = size * size * (0.02 + u[0] * 0.31)
        shape = np.exp(np.log(0.3) + u[1] * (np.log(3.3) - np.log(0.3)))
        h, w = int(np.rint(np.sqrt(area * shape))), int(np.rint(np.sqrt(area / shape)))
        if h < size and w < size:
            x, y = int(u[2] * (size - w + 1)), int(u[3] * (size - h + 1))
            out[i, 0], out[i, 1], out[i, 2], out[i, 3] = x, y, x + w, y + h
            return


@kernel
def draw_keys(indices, key, epoch, keys):
    """Draw the key of each sample.

    Args:
        indices: int64 [N], the samples.
        key, epoch: uint64.
        keys: Output, uint64 [N].
    """
    for i in range(len(indices)):
        sample = np.uint64(indices[i])
        a, b, _, _ = philox(key, np.uint64(31), sample & _MASK, epoch, sample >> _32)
        keys[i] = (a << _32) | b


@kernel
def normals(key, pixel):
    """Three numbers of the normal distribution, by the method of Box and Muller.

    Args:
        key: uint64, of the sample.
        pixel: uint64, number of the pixel in its box.

    Returns:
        Three float32.
    """
    a, b, c, d = philox(key, pixel, _ZERO, _ZERO, _ZERO)
    first = np.sqrt(-2.0 * np.log((a + 0.5) * _TO_UNIT))
    second = np.sqrt(-2.0 * np.log((c + 0.5) * _TO_UNIT))
    angle, other = 2.0 * np.pi * (b + 0.5) * _TO_UNIT, 2.0 * np.pi * (d + 0.5) * _TO_UNIT
    return (
        np.float32(first * np.cos(angle)),
        np.float32(first * np.sin(angle)),
        np.float32(second * np.cos(other)),
    )
