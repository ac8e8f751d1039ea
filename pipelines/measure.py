"""The statistics of repeated measurements: an interval of the median, and which setting is fastest.

In: measurements of the same rounds. Out: numbers, or a choice that noise alone does not make.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

__all__ = ["CONFIDENCE", "fastest", "interval", "rounds_needed"]

CONFIDENCE = 0.95


def interval(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The distribution-free interval of the median: two order statistics of the sorted values.

    The k-th smallest and k-th largest of n values enclose the median unless fewer than k values
    fall on one side of it. Each falls there with probability 1/2, so the interval misses with
    probability 2 P(Binomial(n, 1/2) < k). k is the largest that keeps this within 1 - confidence
    (Conover, Practical Nonparametric Statistics, 3.2). Nothing is assumed about the noise.

    Args:
        values: At least one.
        confidence: The least probability that the interval holds the true median. n values reach
            at most 1 - 0.5 ** (n - 1): where that is less, the whole range is given (five values:
            93.75 %, three: 75 %).

    Returns:
        The lower and the upper end.
    """
    ordered = sorted(values)
    n = len(ordered)
    below, k = 0.0, 0
    while k < n // 2 and 2 * (below + math.comb(n, k) * 0.5**n) <= 1 - confidence:
        below += math.comb(n, k) * 0.5**n
        k += 1
    k = max(k, 1)
    return ordered[k - 1], ordered[n - k]


def rounds_needed(settings: int) -> int:
    """How many rounds `fastest` needs before it can replace the usual setting.

    Args:
        settings: The number of settings to choose from, the usual one among them.

    Returns:
        The smallest number of rounds whose interval reaches the confidence.
    """
    return 1 + math.ceil(-math.log2((1 - CONFIDENCE) / max(1, settings - 1)))


def fastest(rates: Sequence[Sequence[float]], margin: float = 0.0) -> int:
    """The setting to take of several that were measured in the same rounds.

    The first is the usual one. Another replaces it only where the interval of the ratio between
    the two lies above 1 + margin. The confidence of the interval is raised for the number of
    comparisons (Bonferroni), so noise alone replaces the usual setting in less than 1 of 20
    searches. Nothing is replaced after fewer rounds than `rounds_needed`. Of several settings that
    qualify, the one with the largest median ratio wins.

    Args:
        rates: For each setting its images per second, one value a round.
        margin: The gain that is not enough, as a share. It covers drift where the settings did not
            take turns.

    Returns:
        The number of the setting.
    """
    if len(rates[0]) < rounds_needed(len(rates)):
        return 0
    confidence = 1 - (1 - CONFIDENCE) / max(1, len(rates) - 1)
    chosen, largest = 0, 1.0
    for number, values in enumerate(rates[1:], 1):
        gains = [value / usual for value, usual in zip(values, rates[0], strict=True)]
        median = statistics.median(gains)
        if interval(gains, confidence)[0] > 1 + margin and median > largest:
            chosen, largest = number, median
    return chosen
