"""Statistics of paired differences: an interval and a rule to stop that hold at every look.

In: the difference of the two arms for each seed. Out: `Paired`. The differences are taken to be
independent and normal, with an unknown variance. The test is the anytime-valid t-test of Lai (1976)
as given by Wang and Ramdas, "Anytime-valid t-tests and confidence sequences for Gaussian means with
unknown variance" (2023): a martingale whose chance to ever reach 1 / alpha is at most alpha if the
mean is 0. So one may look after every seed and stop as soon as it decides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, variance

__all__ = ["POWER", "Paired", "evidence", "paired", "seeds_needed"]

POWER = 0.8  # of `seeds_needed`
_PRIOR = 1.0  # c squared in the paper: it favors means of about one standard deviation


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
        seeds_paired: The number of seeds that a comparison of this size needs with pairs; None:
            unknown.
        seeds_unpaired: The same with runs of different seeds in both arms, for each arm.
    """

    mean: float
    deviation: float
    low: float
    high: float
    evidence: float
    decided: bool
    seeds_paired: int | None
    seeds_unpaired: int | None


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
        nothing = None
        return Paired(mean, math.nan, -math.inf, math.inf, found, False, nothing, nothing)
    spread = variance(differences)
    return Paired(
        mean,
        math.sqrt(spread),
        mean - half,
        mean + half,
        found,
        found >= 1 / alpha,
        seeds_needed(mean, spread, alpha),
        seeds_needed(mean, variance(a) + variance(b), alpha),
    )


def evidence(differences: Sequence[float]) -> float:
    """The martingale of the anytime-valid t-test that the mean is 0.

    Args:
        differences: The differences so far.

    Returns:
        1 for one difference, or if all are 0; inf if it is above exp(700).
    """
    n, total = len(differences), math.fsum(differences)
    squares = math.fsum(x * x for x in differences)
    if squares == 0:
        return 1.0
    left = squares - total * total / (n + _PRIOR)
    log = 0.5 * math.log(_PRIOR / (n + _PRIOR)) + 0.5 * n * (math.log(squares) - math.log(left))
    return math.exp(log) if log < 700 else math.inf


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
    """The number of seeds with which a two-sided test finds a mean with a chance of POWER.

    Args:
        mean: The mean of the differences.
        spread: The variance of a difference.
        alpha: The error rate.

    Returns:
        The number by the normal approximation, at least 2; None for a mean of 0.
    """
    if mean == 0:
        return None
    normal = NormalDist()
    quantiles = normal.inv_cdf(1 - alpha / 2) + normal.inv_cdf(POWER)
    return max(2, math.ceil(quantiles**2 * spread / mean**2))
