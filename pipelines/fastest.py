"""Statistics of repeated measurements: interval of the median, fastest of several settings.

In: measurements of the same rounds. Out: numbers, or a choice that is not caused by noise alone.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

__all__ = ["CONFIDENCE", "fastest", "interval", "rounds_needed"]

CONFIDENCE = 0.95


def interval(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The distribution-free interval of the median: two order statistics of the sorted values.

    The k-th smallest and the k-th largest of n values enclose the median, unless fewer than k
    values are on one side of it. A value is on a side with probability 1/2, so the interval misses
    the median with probability 2 P(Binomial(n, 1/2) < k). k is the largest number that keeps this
    within 1 - confidence (Conover, Practical Nonparametric Statistics, 3.2). Nothing is assumed
    about the noise.

    Args:
        values: One value or more.
        confidence: The probability that the interval holds the true median, at least. n values
            reach at most 1 - 0.5 ** (n - 1): 93.75 % for five values, 75 % for three. If this is
            less than `confidence`, the interval is the whole range.

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
    """The number of rounds that `fastest` needs to replace the usual setting.

    Args:
        settings: The number of settings, including the usual one.

    Returns:
        The smallest number of rounds whose interval reaches the confidence.
    """
    return 1 + math.ceil(-math.log2((1 - CONFIDENCE) / max(1, settings - 1)))


def fastest(rates: Sequence[Sequence[float]], margin: float = 0.0) -> int:
    """Choose one of several settings that were measured in the same rounds.

    The first setting is the usual one. Another one replaces it only if the interval of the ratio of
    the two is above 1 + margin. The confidence of the interval is raised for the number of
    comparisons (Bonferroni), so noise alone replaces the usual setting in less than 1 of 20
    searches. Nothing is replaced after fewer rounds than `rounds_needed`. If several settings
    qualify, the one with the largest median ratio is chosen.

    Args:
        rates: Images per second of each setting, one value per round.
        margin: A gain up to this share is not enough. It allows for drift if the settings were not
            measured in turns.

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
