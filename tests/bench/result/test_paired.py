"""The paired comparison: its error rate at every look, its interval, the number of seeds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate, stats

from slipform.bench.result.paired import evidence, paired, seeds_needed

ALPHA = 0.05
RUNS, LOOKS = 4000, 40


def _evidences(values: np.ndarray) -> np.ndarray:
    """`evidence` after each look, for many runs at once."""
    n = np.arange(1, values.shape[1] + 1)
    total, squares = values.cumsum(1), (values**2).cumsum(1)
    left = squares - total**2 / (n + 1)
    return np.exp(0.5 * np.log(1 / (n + 1)) + 0.5 * n * (np.log(squares) - np.log(left)))


def test_the_evidence_is_that_of_the_definition() -> None:
    """The ratio of two integrals over the deviation, with the right Haar prior on it: with a normal
    prior on mean / deviation, over that with a mean of 0."""
    values = np.array([0.3, -0.1, 0.8, 0.4])

    def likelihood(sigma: float, delta: float) -> float:
        return float(np.prod(stats.norm.pdf(values, delta * sigma, sigma))) / sigma

    def over_sigma(delta: float) -> float:
        return integrate.quad(lambda s: likelihood(s, delta), 1e-3, 60, limit=200)[0]

    above = integrate.quad(lambda d: over_sigma(d) * stats.norm.pdf(d), -8, 8, limit=200)[0]
    assert evidence(values.tolist()) == pytest.approx(above / over_sigma(0), rel=1e-4)
    assert _evidences(values[None])[0, -1] == pytest.approx(evidence(values.tolist()))


def test_equal_arms_are_called_different_as_rarely_as_stated() -> None:
    """Looking after each of 40 seeds. Of 4,000 comparisons of equal arms at most 5 % may decide;
    271 or more would have a chance below 1e-6 at exactly 5 %. A t-test at each look decides in a
    third of them."""
    generator = np.random.default_rng(0)
    values = generator.normal(0, 3, (RUNS, LOOKS))
    ever = int((_evidences(values) >= 1 / ALPHA).any(1).sum())
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
    found = _evidences(values) >= 1 / ALPHA
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
    assert (one.low, one.high, one.decided, one.seeds_paired) == (-math.inf, math.inf, False, None)
    equal = paired([0.5, 0.6], [0.5, 0.6])
    assert (equal.mean, equal.decided, equal.seeds_paired) == (0, False, None)
    assert not paired([0.5, 0.6], [0.51, 0.62]).decided


def test_the_number_of_seeds_is_that_of_the_power_calculation() -> None:
    """With known variances; the power of the z-test by the number of seeds."""
    for mean, spread in ((1.0, 1.0), (0.5, 1.0), (0.2, 0.5)):
        n = seeds_needed(mean, spread, ALPHA)
        assert n is not None

        def power(size: int, shift: float = mean / math.sqrt(spread)) -> float:
            return float(stats.norm.sf(stats.norm.isf(ALPHA / 2) - shift * math.sqrt(size)))

        assert power(n) >= 0.8 > power(n - 1)
    a = [0.80, 0.82, 0.78, 0.81]
    b = [0.81, 0.83, 0.79, 0.823]
    found = paired(a, b)
    assert found.seeds_paired < found.seeds_unpaired
