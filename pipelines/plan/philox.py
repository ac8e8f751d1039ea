"""Counter-based random numbers: Philox4x32-10. Compiled by numba.

Salmon, Moraes, Dror and Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011.

In: a key (the seed) and a counter (epoch, sample, draw). Out: 4 words of 32 random bits. They are
the same on every machine and in any order of calls. This makes a batch a pure function of (seed,
epoch, sample).

All words are numba uint64 that hold 32 bits. numba would convert mixed widths to float64.
"""

from __future__ import annotations

import numpy as np

from slipform.pipelines.kernel import kernel
from slipform.pipelines.words import LANES, load_words, store_units, store_words, words

__all__ = [
    "AT_ONCE", "batch_uniforms", "order_uniforms", "permutation", "philox", "sample_uniforms",
    "uniforms", "uniforms_of_many",
]  # fmt: skip

# The multipliers and Weyl constants of the paper.
_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_MASK, _32 = np.uint64(0xFFFFFFFF), np.uint64(32)
_TO_UNIT = 1.0 / 4294967296.0

# The fourth word of the counter separates the streams.
_SAMPLES, _ORDER, _BATCHES = np.uint64(0), np.uint64(1 << 16), np.uint64(2 << 16)
_DRAWS = np.uint64(3 << 16)
AT_ONCE = 64  # samples, or positions of a shuffle, whose numbers are drawn before they are used


@kernel
def philox(key, c0, c1, c2, c3):
    """Ten rounds of Philox4x32.

    Args:
        key: uint64.
        c0, c1, c2, c3: The counter: uint64 below 2**32 each, or Words8 of them: eight counters.

    Returns:
        Four words, uint64 below 2**32, or Words8 of them.
    """
    k0, k1 = key & _MASK, key >> _32
    for _ in range(10):
        p0, p1 = _M0 * c0, _M1 * c2
        c0, c1, c2, c3 = (p1 >> _32) ^ c1 ^ k0, p1 & _MASK, (p0 >> _32) ^ c3 ^ k1, p0 & _MASK
        k0, k1 = (k0 + _W0) & _MASK, (k1 + _W1) & _MASK
    return c0, c1, c2, c3


@kernel
def uniforms(key, epoch, sample, draw):
    """The random numbers of one draw of a sample.

    Args:
        key, epoch, sample, draw: uint64.

    Returns:
        Four float64 in the open interval (0, 1).
    """
    a, b, c, d = philox(key, draw, sample & _MASK, epoch, _SAMPLES | (sample >> _32))
    return (a + 0.5) * _TO_UNIT, (b + 0.5) * _TO_UNIT, (c + 0.5) * _TO_UNIT, (d + 0.5) * _TO_UNIT


@kernel
def uniforms_of_many(key, epoch, samples, draw, out):
    """The random numbers of one draw of several samples: the same as `uniforms`, sooner.

    Args:
        key, epoch, draw: uint64.
        samples: uint64 [N], N a multiple of LANES.
        out: Output, float64 [4, N].
    """
    flat = out.reshape(-1)
    for i in range(0, len(samples), LANES):
        at = load_words(samples, i)
        a, b, c, d = philox(key, words(draw), at & _MASK, words(epoch), _SAMPLES | (at >> _32))
        store_units(flat, i, a)
        store_units(flat, i + len(samples), b)
        store_units(flat, i + 2 * len(samples), c)
        store_units(flat, i + 3 * len(samples), d)


@kernel
def sample_uniforms(key, epoch, samples, draws):
    """The random numbers of the first draws of each sample.

    Args:
        key, epoch: uint64.
        samples: int64 [N].
        draws: How many draws.

    Returns:
        float64 [N, 4 * draws] in the open interval (0, 1).
    """
    out = np.empty((len(samples), 4 * draws))
    for i in range(len(samples)):
        for k in range(draws):
            a, b, c, d = uniforms(key, epoch, np.uint64(samples[i]), np.uint64(k))
            out[i, 4 * k], out[i, 4 * k + 1], out[i, 4 * k + 2], out[i, 4 * k + 3] = a, b, c, d
    return out


@kernel
def batch_uniforms(key, epoch, batch, count):
    """The random numbers of a batch, for MixUp and CutMix.

    Args:
        key: The seed.
        epoch: The epoch.
        batch: Number of the batch in the epoch.
        count: How many numbers.

    Returns:
        float64 [count] in the open interval (0, 1).
    """
    out = np.empty(count)
    for i in range(count):
        first = philox(np.uint64(key), np.uint64(i), np.uint64(batch), np.uint64(epoch), _BATCHES)
        out[i] = (first[0] + 0.5) * _TO_UNIT
    return out


@kernel
def order_uniforms(key, epoch, count):
    """The random numbers of an epoch whose samples are drawn with replacement.

    Args:
        key: The seed.
        epoch: The epoch.
        count: How many numbers.

    Returns:
        float64 [count] in [0, 1), of 53 random bits each.
    """
    out = np.empty(count)
    for i in range(count):
        a, b, _, _ = philox(
            np.uint64(key), np.uint64(i) & _MASK, np.uint64(i) >> _32, np.uint64(epoch), _DRAWS
        )
        out[i] = (((a << _32) | b) >> np.uint64(11)) * (1.0 / 9007199254740992.0)
    return out


@kernel
def permutation(key, epoch, count):
    """A Fisher-Yates shuffle of 0..count - 1.

    Each position is drawn from 64 random bits, so the bias is below count / 2**64.

    Args:
        key: The seed.
        epoch: The epoch.
        count: Number of elements.

    Returns:
        int64 [count].
    """
    out = np.arange(count)
    positions, bits = np.empty(AT_ONCE, np.uint64), np.empty(AT_ONCE, np.uint64)
    places, ahead = np.empty(AT_ONCE, np.int64), np.empty(AT_ONCE, np.int64)
    for start in range(count - 1, 0, -AT_ONCE):
        size = min(AT_ONCE, start)
        for k in range(AT_ONCE):
            positions[k] = start - k  # those below 1 are drawn, too, and not used
        for k in range(0, AT_ONCE, LANES):
            at = load_words(positions, k)
            a, b, _, _ = philox(
                np.uint64(key), at & _MASK, at >> _32, words(np.uint64(epoch)), words(_ORDER)
            )
            store_words(bits, k, (a << _32) | b)
        for k in range(size):
            places[k] = np.int64(bits[k] % (positions[k] + np.uint64(1)))
        # The processor waits for several of these reads at the same time. Below, it would wait for
        # one after another: a shuffle of 10 million elements took 4 times as long.
        for k in range(size):
            ahead[k] = out[places[k]]
        for k in range(size):
            i, j = start - k, places[k]
            out[i], out[j] = out[j], out[i]
    return out
