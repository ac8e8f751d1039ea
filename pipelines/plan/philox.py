"""Counter-based random numbers: Philox4x32-10.

Salmon, Moraes, Dror and Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011.

In: a key (the seed) and a counter (epoch, sample, draw). Out: 4 words of 32 random bits, the same
on every machine and in any order of asking: this is what makes a batch a pure function of (seed,
epoch, sample).

All words are numba uint64 that hold 32 bits: mixed widths would silently become float64 in numba.
"""

from __future__ import annotations

import numpy as np

from slipform.pipelines.kernel import kernel

_M0, _M1 = (
    np.uint64(0xD2511F53),
    np.uint64(0xCD9E8D57),
)  # multipliers and Weyl constants of the paper
_W0, _W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_MASK, _32 = np.uint64(0xFFFFFFFF), np.uint64(32)
_TO_UNIT = 1.0 / 4294967296.0

# The fourth counter word keeps the streams apart.
SAMPLES, ORDER, BATCHES = np.uint64(0), np.uint64(1 << 16), np.uint64(2 << 16)


@kernel
def philox(key, c0, c1, c2, c3):
    """Ten rounds over the counter (c0, c1, c2, c3), each uint64 below 2**32, with the 64-bit key:
    four such words."""
    k0, k1 = key & _MASK, key >> _32
    for _ in range(10):
        p0, p1 = _M0 * c0, _M1 * c2
        c0, c1, c2, c3 = (p1 >> _32) ^ c1 ^ k0, p1 & _MASK, (p0 >> _32) ^ c3 ^ k1, p0 & _MASK
        k0, k1 = (k0 + _W0) & _MASK, (k1 + _W1) & _MASK
    return c0, c1, c2, c3


@kernel
def uniforms(key, epoch, sample, draw):
    """Four float64 in (0, 1), never its ends: number `draw` of this sample in this epoch. All
    arguments uint64."""
    a, b, c, d = philox(key, draw, sample & _MASK, epoch, SAMPLES | (sample >> _32))
    return (a + 0.5) * _TO_UNIT, (b + 0.5) * _TO_UNIT, (c + 0.5) * _TO_UNIT, (d + 0.5) * _TO_UNIT


@kernel
def batch_uniforms(key, epoch, batch, count):
    """float64 [count] in (0, 1) for the batch number `batch` of an epoch: what MixUp and CutMix
    draw from."""
    out = np.empty(count)
    for i in range(count):
        words = philox(np.uint64(key), np.uint64(i), np.uint64(batch), np.uint64(epoch), BATCHES)
        out[i] = (words[0] + 0.5) * _TO_UNIT
    return out


@kernel
def permutation(key, epoch, count):
    """int64 [count]: a Fisher-Yates shuffle of 0..count-1; partners from 64 random bits, so the
    bias is below count / 2**64."""
    out = np.arange(count)
    for i in range(count - 1, 0, -1):
        a, b, _, _ = philox(
            np.uint64(key), np.uint64(i) & _MASK, np.uint64(i) >> _32, np.uint64(epoch), ORDER
        )
        j = np.int64(((a << _32) | b) % np.uint64(i + 1))
        out[i], out[j] = out[j], out[i]
    return out
