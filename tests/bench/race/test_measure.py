"""The statistics against scipy and numpy, and the order of the turns."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, quantile_test

from slipform.bench.race.measure import figure, interleave, interval, ratio

values_of_a_run = st.lists(st.floats(1e-3, 1e6), min_size=6, max_size=60, unique=True)


@given(values_of_a_run)
def test_the_interval_is_scipys(values: list[float]) -> None:
    reference = quantile_test(values, q=0.0, p=0.5).confidence_interval(confidence_level=0.95)
    assert interval(values) == pytest.approx((reference.low, reference.high))


@given(values_of_a_run)
def test_the_median_is_numpys_and_lies_inside(values: list[float]) -> None:
    found = figure(values)
    assert found.median == pytest.approx(np.median(values))
    assert found.low <= found.median <= found.high
    assert found.repeats == len(values)


@pytest.mark.parametrize("n", range(6, 101))
def test_the_ranks_are_the_narrowest_that_cover_95_percent(n: int) -> None:
    low, high = interval(list(range(1, n + 1)))
    assert low + high == n + 1
    assert 1 - 2 * binom.cdf(low - 1, n, 0.5) >= 0.95
    assert 1 - 2 * binom.cdf(low, n, 0.5) < 0.95  # one rank further in would miss it


def test_the_interval_covers_the_true_median_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    samples = generator.lognormal(size=(4000, 11))  # skewed, as timings are; its median is 1
    hits = sum(low <= 1 <= high for low, high in map(interval, samples))
    exact = 1 - 2 * binom.cdf(1, 11, 0.5)  # 11 values: second smallest to second largest
    assert hits / 4000 == pytest.approx(exact, abs=0.015)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_few_values_give_their_whole_range(n: int) -> None:
    assert interval(list(range(n))) == (0, n - 1)


def test_a_ratio_is_formed_round_by_round() -> None:
    drift = np.array(
        [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]
    )  # a machine that doubles its speed every round
    found = ratio(list(3 * drift), list(drift))
    assert (found.low, found.median, found.high) == (3.0, 3.0, 3.0)


def test_turns_are_interleaved_and_change_their_order() -> None:
    calls: list[str] = []

    def turn(name: str) -> dict[str, float]:
        calls.append(name)
        return {"x": float(len(calls))}

    values = interleave({"A": lambda: turn("A"), "B": lambda: turn("B")}, rounds=3)
    assert calls == ["A", "B", "B", "A", "A", "B"]
    assert values == {"A": {"x": [1, 4, 5]}, "B": {"x": [2, 3, 6]}}
