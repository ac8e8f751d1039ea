"""Statistics of paired differences: an interval and a rule to stop that hold at every look.

In: the difference of the two arms for each seed. Out: `Paired`, and the number of seeds that the
rule needs. The differences are taken to be independent and normal, with an unknown variance. The
test is that of Wang and Ramdas, "Anytime-valid t-tests and confidence sequences for Gaussian means
with unknown variance" (2023), with a Gaussian mixture over mean / deviation and the right Haar
mixture over the deviation: a martingale whose chance to ever reach 1 / alpha is at most alpha if
the mean is 0. So one may look after every seed and stop as soon as it decides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from statistics import fmean, variance
from typing import Any

import numpy as np

__all__ = [
    "POWER", "Paired", "evidence", "fewest_seeds", "log_evidence", "paired", "seeds_needed",
]  # fmt: skip

POWER = 0.8  # of `seeds_needed`
_PRIOR = 1.0  # c squared in the paper: it favors means of about one standard deviation
_COMPARISONS = 4000  # that `seeds_needed` simulates
_MOST_SEEDS = 1_000_000
_DIGITS = 9  # differences that are equal up to rounding are counted once


@dataclass(frozen=True)
class Paired:
    """The comparison of two arms over seeds.

    Attributes:
        mean: The mean of the differences, B - A.
        deviation: The standard deviation of the differences; nan for one seed.
        low: The lower end of the interval of the mean; -inf where nothing is known.
        high: The upper end.
        evidence: The value of the martingale; 1 / alpha decides.
        decided: Whether the means differ.
        few_values: Whether at most half of the differences are distinct, as for accuracies of a
            small split: they are not normal then, and the error rate may be higher. With
            differences of +1 and -1 image, for example, it is 0.083 at alpha 0.05 and 40 looks.
    """

    mean: float
    deviation: float
    low: float
    high: float
    evidence: float
    decided: bool
    few_values: bool


def paired(a: Sequence[float], b: Sequence[float], alpha: float = 0.05) -> Paired:
    """Compare two arms.

    Args:
        a: A result of arm A for each seed.
        b: The result of arm B for the same seeds.
        alpha: The chance that equal arms are ever called different.
    """
    differences = [y - x for x, y in zip(a, b, strict=True)]
    n, mean = len(differences), fmean(differences)
    half, found = _half_width(differences, alpha), evidence(differences)
    if n < 2:
        return Paired(mean, math.nan, -math.inf, math.inf, found, False, False)
    distinct = len({round(value, _DIGITS) for value in differences})
    return Paired(
        mean,
        math.sqrt(variance(differences)),
        mean - half,
        mean + half,
        found,
        found >= 1 / alpha,
        2 * distinct <= n,
    )


def evidence(differences: Sequence[float]) -> float:
    """The martingale of the anytime-valid t-test that the mean is 0.

    Args:
        differences: The differences so far.

    Returns:
        1 for one difference, or if all are 0; inf if it is above exp(700).
    """
    squares = math.fsum(x * x for x in differences)
    if squares == 0:
        return 1.0
    log = float(log_evidence(len(differences), math.fsum(differences), squares))
    return math.exp(log) if log < 700 else math.inf


def log_evidence(n: Any, total: Any, squares: Any) -> Any:
    """The logarithm of `evidence`, for numbers or arrays of numpy.

    Args:
        n: The number of differences.
        total: Their sum.
        squares: The sum of their squares, above 0.
    """
    left = squares - total * total / (n + _PRIOR)
    return 0.5 * np.log(_PRIOR / (n + _PRIOR)) + 0.5 * n * (np.log(squares) - np.log(left))


def fewest_seeds(alpha: float) -> int:
    """The fewest seeds after which the rule can decide: those of differences that are all equal.

    Args:
        alpha: The error rate.
    """
    return next(n for n in count(2) if log_evidence(n, n, n) >= -math.log(alpha))


def _half_width(differences: Sequence[float], alpha: float) -> float:
    """Half of the interval: the means that `evidence` does not exclude."""
    n, mean = len(differences), fmean(differences)
    squares = math.fsum((x - mean) ** 2 for x in differences)
    ratio = math.exp(2 / n * (0.5 * math.log((n + _PRIOR) / _PRIOR) - math.log(alpha)))
    left = 1 - ratio * _PRIOR / (n + _PRIOR)
    if left <= 0:
        return math.inf
    return math.sqrt((ratio - 1) * squares / (n * left))


def seeds_needed(mean: float, spread: float, alpha: float) -> int | None:
    """The number of seeds until the rule finds a mean with a chance of POWER.

    Args:
        mean: The mean of the differences.
        spread: The variance of a difference.
        alpha: The error rate.

    Returns:
        The number, by a simulation, within about 5 %. None: the mean is 0, or it takes more than a
        million seeds.
    """
    if mean == 0:
        return None
    effect = abs(mean) / math.sqrt(spread) if spread > 0 else math.inf
    return _simulated(float(f"{min(effect, 1e4):.3g}"), alpha)


@lru_cache(maxsize=64)
def _simulated(effect: float, alpha: float) -> int | None:
    """`seeds_needed` for a mean in standard deviations.

    Comparisons look after each of the first 100 seeds, and then each time that 2 % more are done.
    The sum and the squares of the seeds between two looks are drawn at once.
    """
    generator = np.random.default_rng(0)
    total, squares = np.zeros(_COMPARISONS), np.zeros(_COMPARISONS)
    decided, n = np.zeros(_COMPARISONS, bool), 0
    while n < _MOST_SEEDS:
        more = 1 if n < 100 else n // 50
        n += more
        own = generator.normal(more * effect, math.sqrt(more), _COMPARISONS)
        total += own
        squares += own * own / more
        if more > 1:
            squares += generator.chisquare(more - 1, _COMPARISONS)
        decided |= log_evidence(n, total, squares) >= -math.log(alpha)
        if decided.mean() >= POWER:
            return n
    return None
