"""The random numbers of `slipform.pipelines.plan.philox` in a Triton kernel, and rounding.

In: seed, epoch, samples, the number of a draw. Out: the same float64 numbers, bit for bit.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["rint", "uniforms", "words"]


@triton.jit
def words(seed, epoch, index, number):
    """The random words of one draw of each sample.

    Args:
        seed, epoch: The stream of random numbers.
        index: int64 [BLOCK], the samples.
        number: Number of the draw.

    Returns:
        Four uint32 [BLOCK].
    """
    low, high = (index & 0xFFFFFFFF).to(tl.uint32), (index >> 32).to(tl.uint32)
    counter = (index * 0 + number).to(tl.uint32)
    return tl.philox(seed, counter, low, (index * 0 + epoch).to(tl.uint32), high)


@triton.jit
def uniforms(seed, epoch, index, number):
    """The random numbers of one draw of each sample.

    Args:
        seed, epoch: The stream of random numbers.
        index: int64 [BLOCK], the samples.
        number: Number of the draw.

    Returns:
        Four float64 [BLOCK] in the open interval (0, 1).
    """
    a, b, c, d = words(seed, epoch, index, number)
    unit = 2.0**-32
    return (
        (a.to(tl.float64) + 0.5) * unit,
        (b.to(tl.float64) + 0.5) * unit,
        (c.to(tl.float64) + 0.5) * unit,
        (d.to(tl.float64) + 0.5) * unit,
    )


@triton.jit
def rint(x):
    """Round to the nearest integer, and halves to the even one.

    Args:
        x: float64, |x| < 2**51.
    """
    return (x + 6755399441055744.0) - 6755399441055744.0  # 1.5 * 2**52
