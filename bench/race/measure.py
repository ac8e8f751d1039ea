"""Estimates from repeated measurements: medians with intervals, and ratios.

In: measurements in base units. Out: `Estimate`s.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from slipform.bench.result.result import Estimate
from slipform.pipelines.measure import CONFIDENCE, interval

__all__ = ["estimate", "ratio"]


def estimate(values: Sequence[float], confidence: float = CONFIDENCE) -> Estimate:
    """The median with its interval.

    Args:
        values: At least one, finite.
        confidence: As for `interval`.

    Returns:
        Median, low, high, repeats.
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
    """The median of ours / theirs, formed within each round.

    A machine drifts (clock, heat, neighbors): what slows one round slows both parts of its ratio.

    Args:
        ours: One measurement a round.
        theirs: Those of the same rounds, in the same order.
        confidence: As for `interval`.

    Returns:
        The estimate of the ratio.

    Raises:
        ValueError: The two were not measured in the same number of rounds.
    """
    pairs = zip(ours, theirs, strict=True)
    return estimate([a / b for a, b in pairs], confidence)
