"""Which JPEGs go to the decoder of a GPU: `in_share`, by a hash of the number of the sample.

In: samples, a share. Out: a flag for each sample. Decoders differ in how they round and enlarge
color. The position in a batch must not select the decoder: the pixels of a sample would then depend
on the batch size and the number of processes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["in_share"]


def in_share(samples: npt.NDArray[np.int64], share: float) -> npt.NDArray[np.bool_]:
    """Choose samples by the finalizer of SplitMix64 (Steele et al., OOPSLA 2014).

    A larger share has all samples of a smaller one.

    Args:
        samples: int64 [N], positions in the beton.
        share: The expected share of the samples, 0 to 1.

    Returns:
        bool [N].
    """
    x = samples.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return (x >> np.uint64(11)) < np.uint64(int(share * 2**53))
