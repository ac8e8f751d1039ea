"""Thresholds against all thresholds that there are."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import f1_score

from slipform.train.scores.thresholds import best_thresholds


def test_no_threshold_has_a_higher_f1() -> None:
    rng = np.random.default_rng(0)
    positive = rng.random((80, 6)) < [0.5, 0.2, 0.05, 0.9, 0.3, 0.0]
    scores = np.clip(rng.random((80, 6)) * 0.7 + 0.3 * positive, 0, 1)
    scores[:, 4] = scores[:, 4].round(1)  # many equal ones
    found = best_thresholds(scores, positive)
    assert found[5] == 0.5
    for c in range(5):
        own = f1_score(positive[:, c], scores[:, c] >= found[c])
        every = [f1_score(positive[:, c], scores[:, c] >= limit) for limit in scores[:, c]]
        assert own == max(every)
        assert not (scores[:, c] == found[c]).any() or len(np.unique(scores[:, c])) < 15
        # A little more or less noise in the scores does not change who is above.
        assert (abs(scores[:, c] - found[c]) > 1e-6).all()


def test_all_positive_and_all_equal() -> None:
    ones, same = np.ones((3, 1), bool), np.full((4, 1), 0.25)
    assert best_thresholds(np.array([[0.2], [0.4], [0.9]]), ones).tolist() == [0.1]
    assert best_thresholds(same, np.array([[True], [False], [False], [True]])).tolist() == [0.125]
