"""Noise for erased boxes: normal numbers as a pure function of (seed, epoch, sample, pixel).

In: seed, epoch, samples. Out: a key for each sample, and from it three normal numbers for each
pixel. The code is compiled by numba. The keys have draw 31 of a sample.
"""

from __future__ import annotations

import numpy as np

from slipform.pipelines.kernel import kernel
from slipform.pipelines.plan.philox import philox

__all__ = ["MODES", "draw_keys", "normals"]

# The codes of `Augmentation.erase_mode`.
MODES = {"const": 0, "rand": 1, "pixel": 2}
_MASK, _32, _ZERO = np.uint64(0xFFFFFFFF), np.uint64(32), np.uint64(0)
_TO_UNIT = 1.0 / 4294967296.0


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
