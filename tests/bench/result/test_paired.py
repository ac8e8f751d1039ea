"""The paired comparison: its error rate at every look, its interval, the number of seeds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate, stats

from slipform.bench.result.paired import (
    POWER,
    evidence,
    fewest_seeds,
    log_evidence,
    paired,
    seeds_needed,
)

ALPHA = 0.05
RUNS, LOOKS = 4000, 40


def _evidences(values: np.ndarray) -> np.ndarray:
    """The logarithm of `evidence` after each look, for many comparisons at once."""
    n = np.arange(1, values.shape[1] + 1)
    return log_evidence(n, values.cumsum(1), (values**2).cumsum(1))


def test_the_evidence_is_that_of_the_definition() -> None:
    """The ratio of two integrals over the deviation, with the right Haar prior on it: with a normal
    prior on mean / deviation, over that with a mean of 0."""
    values = np.array([0.3, -0.1, 0.8, 0.4])

    def normal(z: float) -> float:  # scipy's needs a hundred times as long for one number
        return math.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)

    def likelihood(sigma: float, delta: float) -> float:
        return math.prod(normal(x / sigma - delta) / sigma for x in values.tolist()) / sigma

    def over_sigma(delta: float) -> float:
        return integrate.quad(lambda s: likelihood(s, delta), 1e-3, 60, limit=200)[0]

    above = integrate.quad(lambda d: over_sigma(d) * normal(d), -8, 8, limit=200)[0]
    assert evidence(values.tolist()) == pytest.approx(above / over_sigma(0), rel=1e-4)
    looks = [evidence(values[:n].tolist()) for n in range(1, 5)]
    assert np.exp(_evidences(values[None])[0]) == pytest.approx(looks)


def test_equal_arms_are_called_different_as_rarely_as_stated() -> None:
    """Looking after each of 40 seeds. Of 4,000 comparisons of equal arms at most 5 % may decide;
    271 or more would have a chance below 1e-6 at exactly 5 %. A t-test at each look decides in a
    third of them."""
    generator = np.random.default_rng(0)
    values = generator.normal(0, 3, (RUNS, LOOKS))
    ever = int((_evidences(values) >= -math.log(ALPHA)).any(1).sum())
    assert stats.binom.sf(270, RUNS, ALPHA) < 1e-6
    assert ever <= 270
    n = np.arange(2, LOOKS + 1)
    mean = values.cumsum(1)[:, 1:] / n
    spread = ((values**2).cumsum(1)[:, 1:] - n * mean**2) / (n - 1)
    naive = 2 * stats.t.sf(np.abs(mean) / np.sqrt(spread / n), n - 1) < ALPHA
    assert int(naive.any(1).sum()) > 800


def test_different_arms_are_found() -> None:
    """A difference of one deviation is found within 40 seeds in nearly all comparisons."""
    values = np.random.default_rng(1).normal(1, 1, (1000, LOOKS))
    found = _evidences(values) >= -math.log(ALPHA)
    assert found.any(1).mean() > 0.99
    assert np.median(found.argmax(1)) + 1 < 20


def test_the_interval_holds_the_means_that_are_not_excluded() -> None:
    generator = np.random.default_rng(2)
    a = generator.normal(0.8, 0.02, 9)
    b = a + generator.normal(0.01, 0.004, 9)
    found = paired(a.tolist(), b.tolist())
    assert found.mean == pytest.approx((b - a).mean())
    assert found.deviation == pytest.approx((b - a).std(ddof=1))
    for edge in (found.low, found.high):
        assert evidence((b - a - edge).tolist()) == pytest.approx(1 / ALPHA, rel=1e-6)
    assert found.decided == (not found.low <= 0 <= found.high)
    assert found.decided


def test_few_seeds_decide_nothing() -> None:
    one = paired([0.5], [0.9])
    assert (one.low, one.high, one.decided) == (-math.inf, math.inf, False)
    equal = paired([0.5, 0.6], [0.5, 0.6])
    assert (equal.mean, equal.decided) == (0, False)
    assert not paired([0.5, 0.6], [0.51, 0.62]).decided


@pytest.mark.parametrize(("alpha", "fewest"), [(0.05, 5), (0.2, 4), (0.001, 8)])
def test_the_fewest_seeds_that_can_decide(alpha: float, fewest: int) -> None:
    """Differences without any spread have the largest evidence."""
    assert fewest_seeds(alpha) == fewest
    equal, below = [0.1] * fewest, [0.1] * (fewest - 1)
    assert paired([0.0] * fewest, equal, alpha).decided
    assert not paired([0.0] * (fewest - 1), below, alpha).decided
    others = np.random.default_rng(6).normal(1, 0.5, (2000, fewest - 1))
    assert max(evidence(row.tolist()) for row in others) <= evidence(below) < 1 / alpha


def test_differences_with_few_values() -> None:
    """One image more or less, with equal chances: the error rate is higher than stated. All these
    decisions have a warning."""
    values = np.random.default_rng(3).choice([-1.0, 1.0], (RUNS, LOOKS))
    decided = _evidences(values) >= -math.log(ALPHA)
    assert 0.07 < decided.any(1).mean() < 0.10
    for row, looks in zip(values[:500], decided[:500], strict=True):
        if looks.any():
            n = int(looks.argmax()) + 1
            found = paired([0.0] * n, (row[:n] / 60).tolist())
            assert found.decided
            assert found.few_values
    distinct = np.random.default_rng(4).normal(size=9).tolist()
    assert not paired([0.0] * 9, distinct).few_values
    # 0.1 + 0.2 - 0.2 and 0.1 are one value.
    assert paired([0.2, 0.0], [0.1 + 0.2, 0.1]).few_values


@pytest.mark.parametrize("effect", [0.25, 0.5, 1.0, 2.0])
def test_after_that_many_seeds_the_rule_has_decided_with_the_stated_power(effect: float) -> None:
    """By a simulation that looks after each seed."""
    n = seeds_needed(-effect * 3, 9.0, ALPHA)
    assert n is not None
    values = np.random.default_rng(5).normal(effect, 1, (RUNS, n))
    decided = (_evidences(values) >= -math.log(ALPHA)).any(1).mean()
    before = (_evidences(values[:, : int(0.9 * n)]) >= -math.log(ALPHA)).any(1).mean()
    # A share of 4,000 has a deviation of 0.006; a tenth of the seeds is 0.04 to 0.2 of power.
    assert decided > POWER - 0.035
    assert before < POWER
    fixed = ((stats.norm.isf(ALPHA / 2) + stats.norm.ppf(POWER)) / effect) ** 2
    assert 1.7 * fixed < n < 5 * fixed


def test_the_number_of_seeds_at_the_ends() -> None:
    assert seeds_needed(0.0, 1.0, ALPHA) is None
    assert seeds_needed(1e-5, 1.0, ALPHA) is None  # more than a million
    same = seeds_needed(0.1, 0.0, ALPHA)
    assert same is not None
    assert evidence([0.1] * same) >= 1 / ALPHA > evidence([0.1] * (same - 1))
