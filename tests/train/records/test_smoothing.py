"""The moving average against its definition."""

from __future__ import annotations

import numpy as np
import pytest

from slipform.train.records.smoothing import MovingAverage


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.98])
def test_it_is_the_mean_with_falling_weights(decay: float) -> None:
    values = np.random.default_rng(0).normal(size=30)
    average = MovingAverage(decay)
    for count in range(1, 31):
        weights = decay ** np.arange(count - 1, -1, -1.0)
        expected = np.average(values[:count], weights=weights)
        assert average.add(float(values[count - 1])) == pytest.approx(expected)
