"""Estimates from repeated measurements: medians with intervals, and ratios.

In: measurements in base units. Out: `Estimate`s.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from slipform.bench.result.result import Estimate
from slipform.pipelines.fastest import CONFIDENCE, interval

__all__ = ["estimate", "ratio"]


def estimate(values: Sequence[float], confidence: float = CONFIDENCE) -> Estimate:
    """The median of repeated measurements with its interval.

    Args:
        values: One or more finite numbers.
        confidence: The confidence of the interval, 0..1; see `interval`.
    """
    low, high = interval(values, confidence)
    return Estimate(
        median=float(statistics.median(values)),
        low=float(low),
        high=float(high),
        repeats=len(values),
    )


def ratio(
    ours: Sequence[float], theirs: Sequence[float], confidence: float = CONFIDENCE
) -> Estimate:
    """The median of ours / theirs; each ratio is of one round.

    The speed of a machine drifts (clock, heat, other load). A slow round is slow for both numbers
    of its ratio.

    Args:
        ours: One measurement for each round.
        theirs: The measurements of the same rounds, in the same order.
        confidence: The confidence of the interval, 0..1; see `interval`.

    Raises:
        ValueError: The numbers of rounds differ.
    """
    pairs = zip(ours, theirs, strict=True)
    return estimate([a / b for a, b in pairs], confidence)
