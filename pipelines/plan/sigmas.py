"""The deviation of the Gaussian blur of each sample. Compiled by numba. It is draw 32 of a sample.

In: seed, epoch, samples, the numbers of a `Blur`. Out: deviations in pixels of the output.
"""

import numpy as np

from slipform.pipelines.kernel import kernel
from slipform.pipelines.plan.philox import uniforms

__all__ = ["draw_sigmas"]


@kernel
def draw_sigmas(indices, key, epoch, probability, low, high, sigmas):
    """Draw the deviation of each sample.

    Args:
        indices: int64 [N], the samples.
        key, epoch: uint64.
        probability, low, high: As in `Blur`.
        sigmas: Output, float32 [N]. 0: the sample is not blurred.
    """
    for i in range(len(indices)):
        u = uniforms(key, epoch, np.uint64(indices[i]), np.uint64(32))
        sigmas[i] = low + u[1] * (high - low) if u[0] < probability else 0.0
