"""The interval of a median compared with scipy, and the rule of a search."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, quantile_test

from slipform.pipelines.fastest import fastest, interval, rounds_needed

values_of_a_run = st.lists(st.floats(1e-3, 1e6), min_size=6, max_size=60, unique=True)


@given(values_of_a_run)
def test_the_interval_equals_scipys(values: list[float]) -> None:
    reference = quantile_test(values, q=0.0, p=0.5).confidence_interval(confidence_level=0.95)
    assert interval(values) == pytest.approx((reference.low, reference.high))


@pytest.mark.parametrize("n", range(6, 101))
def test_the_ranks_are_the_narrowest_that_cover_95_percent(n: int) -> None:
    low, high = interval(list(range(1, n + 1)))
    assert low + high == n + 1
    assert 1 - 2 * binom.cdf(low - 1, n, 0.5) >= 0.95
    assert 1 - 2 * binom.cdf(low, n, 0.5) < 0.95  # the next narrower interval covers too little


def test_the_interval_covers_the_true_median_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    samples = generator.lognormal(size=(4000, 11))  # skewed, like timings; the median is 1
    hits = sum(low <= 1 <= high for low, high in map(interval, samples))
    exact = 1 - 2 * binom.cdf(1, 11, 0.5)  # 11 values: second smallest to second largest
    assert hits / 4000 == pytest.approx(exact, abs=0.015)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_few_values_give_their_whole_range(n: int) -> None:
    assert interval(list(range(n))) == (0, n - 1)


@pytest.mark.parametrize("settings", [2, 3, 5, 9])
def test_a_search_does_not_choose_within_its_own_noise(settings: int) -> None:
    """All settings are equally fast: the usual one is kept in at least 19 of 20 searches.

    2,000 searches with a seeded generator. If the true share of wrong choices was 1/20, more than
    150 would be wrong with a probability below 1e-6 (binomial)."""
    assert binom.sf(150, 2000, 1 / 20) < 1e-6
    generator = np.random.default_rng(settings)
    rounds = rounds_needed(settings)
    noise = generator.lognormal(sigma=0.2, size=(2000, settings, rounds))
    assert sum(fastest(rates) != 0 for rates in noise.tolist()) <= 150


def test_a_search_finds_a_setting_that_is_faster_beyond_the_noise() -> None:
    generator = np.random.default_rng(0)
    rounds = rounds_needed(3)
    noise = generator.uniform(0.99, 1.01, size=(3, rounds))
    assert fastest((noise * [[1.0], [1.1], [1.05]]).tolist()) == 1
    assert fastest((noise * [[1.0], [0.9], [0.95]]).tolist()) == 0
    assert fastest((noise * [[1.0], [1.1], [1.2]]).tolist()) == 2


def test_a_search_with_too_few_rounds_keeps_the_usual() -> None:
    """A setting wins three rounds by chance in one of eight cases."""
    assert rounds_needed(2) == 6
    assert fastest([[1.0] * 5, [9.0] * 5]) == 0
    assert fastest([[1.0] * 6, [9.0] * 6]) == 1
    assert fastest([[1.0] * 6, [9.0] * 6, [0.5] * 6]) == 0  # two other settings need seven rounds


def test_a_gain_within_the_margin_is_ignored() -> None:
    assert fastest([[1.0] * 6, [1.02] * 6], margin=0.03) == 0
    assert fastest([[1.0] * 6, [1.04] * 6], margin=0.03) == 1


def test_a_single_setting_is_chosen() -> None:
    assert fastest([[1.0]]) == 0
