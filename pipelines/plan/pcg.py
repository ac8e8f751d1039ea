"""The random permutation of numpy 2, written out. Compiled by numba.

In: a seed. Out: what `numpy.random.default_rng(seed).permutation(count)` gives in numpy 2.4. numpy
may change that function, but not the raw numbers of PCG64 (NEP 19). A division of samples into
parts that was made with it stays as it is.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from slipform.pipelines.kernel import kernel

__all__ = ["pcg_permutation"]

_MASK, _32 = np.uint64(0xFFFFFFFF), np.uint64(32)


def pcg_permutation(seed: int, count: int) -> npt.NDArray[np.int64]:
    """A random order.

    Args:
        seed: The seed, 0 or more.
        count: Number of elements, below 2**32.

    Returns:
        int64 [count], a permutation of 0..count - 1.
    """
    # An element needs at most 1.48 words on average. Twice `count` and 100 words are too few with a
    # probability below 1e-20.
    raw = np.random.PCG64(seed).random_raw(count + 50)
    return np.asarray(_shuffled(np.stack([raw & _MASK, raw >> _32], axis=1).ravel(), count))


@kernel
def _shuffled(words, count):
    """A Fisher-Yates shuffle. Its bounded numbers are masked words; larger ones are rejected.

    Args:
        words: uint64 [M], each below 2**32.
        count: Number of elements.

    Returns:
        int64 [count].
    """
    out, at, mask = np.arange(count), 0, np.uint64(0)
    while mask < np.uint64(count - 1):
        mask = mask << np.uint64(1) | np.uint64(1)
    for i in range(count - 1, 0, -1):
        while mask >> np.uint64(1) >= np.uint64(i):
            mask >>= np.uint64(1)
        j = words[at] & mask
        at += 1
        while j > np.uint64(i):
            j = words[at] & mask
            at += 1
        out[i], out[j] = out[j], out[i]
    return out
