"""Estimates: medians compared with numpy's, and ratios within each round."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipform.bench.race.measure import estimate, ratio

values_of_a_run = st.lists(st.floats(1e-3, 1e6), min_size=6, max_size=60, unique=True)


@given(values_of_a_run)
def test_the_median_equals_numpys_and_is_inside_its_interval(values: list[float]) -> None:
    found = estimate(values)
    assert found.median == pytest.approx(np.median(values))
    assert found.low <= found.median <= found.high
    assert found.repeats == len(values)


def test_a_ratio_is_computed_within_each_round() -> None:
    # A machine that doubles its speed every round.
    drift = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0])
    found = ratio(list(3 * drift), list(drift))
    assert (found.low, found.median, found.high) == (3.0, 3.0, 3.0)


def test_a_ratio_needs_the_same_rounds() -> None:
    with pytest.raises(ValueError, match="zip"):
        ratio([1.0, 2.0], [1.0])
