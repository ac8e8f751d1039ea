"""AUROC, average precision, top-k, precision, recall and F1 are those of scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from slipform.train.scores.counts import class_scores, macro, weighted
from slipform.train.scores.ranking import auroc, average_precision, placements, top_k


def scores_and_labels(num: int = 400, classes: int = 6, steps: int = 8) -> tuple[Any, Any]:
    """Scores with many ties, better than chance. The last class has no sample."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes - 1, num)
    scores = rng.normal(size=(num, classes)) + 1.2 * np.eye(classes)[labels]
    return np.round(scores * steps) / steps, labels


def test_auroc_and_average_precision_of_columns() -> None:
    scores, labels = scores_and_labels()
    positive = np.arange(6) == labels[:, None]
    areas, precisions = auroc(scores, positive), average_precision(scores, positive)
    for c in range(5):
        assert areas[c] == pytest.approx(metrics.roc_auc_score(positive[:, c], scores[:, c]))
        expected = metrics.average_precision_score(positive[:, c], scores[:, c])
        assert precisions[c] == pytest.approx(expected)
    assert np.isnan([areas[5], precisions[5]]).all()
    assert auroc(np.zeros((9, 1)), np.arange(9)[:, None] < 3)[0] == 0.5
    assert np.isnan(auroc(np.zeros((3, 1)), np.ones((3, 1), bool)))[0]


def test_placements_have_the_auroc_as_mean_on_both_sides() -> None:
    scores, labels = scores_and_labels()
    positive = labels == 2
    found = placements(scores[:, 2], positive)
    area = metrics.roc_auc_score(positive, scores[:, 2])
    assert [found[positive].mean(), found[~positive].mean()] == pytest.approx([area, area])


@pytest.mark.parametrize("k", [1, 3, 5])
def test_top_k(k: int) -> None:
    scores, labels = scores_and_labels(steps=10**6)
    expected = metrics.top_k_accuracy_score(labels, scores, k=k, labels=range(6))
    assert top_k(scores, labels, k).mean() == pytest.approx(expected)


def test_top_k_of_equal_scores_is_the_first_class() -> None:
    assert top_k(np.zeros((2, 3)), np.array([0, 1]), 1).tolist() == [True, False]
    assert top_k(np.zeros((2, 3)), np.array([0, 1]), 9).all()


def test_precision_recall_and_f1() -> None:
    scores, labels = scores_and_labels()
    predicted = np.where(scores.argmax(1) == 3, 0, scores.argmax(1))  # class 3: never
    confusion = metrics.confusion_matrix(labels, predicted, labels=range(6))
    found = class_scores(confusion.diagonal(), confusion.sum(1), confusion.sum(0))
    expected = metrics.precision_recall_fscore_support(
        labels, predicted, labels=range(5), zero_division=0.0
    )
    for ours, theirs in zip((found.precision, found.recall, found.f1), expected, strict=False):
        np.testing.assert_allclose(ours[:5], theirs)
        assert np.isnan(ours[5])
    options = {"labels": range(5), "zero_division": 0.0}
    for name, ours in (("macro", macro(found.f1)), ("weighted", weighted(found.f1, found.images))):
        assert ours == pytest.approx(metrics.f1_score(labels, predicted, average=name, **options))
    assert np.isnan(macro(np.array([np.nan])))
    assert np.isnan(weighted(np.array([np.nan]), np.array([0.0])))


def test_counts_of_many_resamples_at_once() -> None:
    """The leading dimensions are kept."""
    many = class_scores(*(np.full((7, 3), value) for value in (2, 4, 8)))
    assert many.f1.shape == (7, 3)
    assert macro(many.precision).tolist() == [0.25] * 7
    assert weighted(many.recall, many.images).tolist() == [0.5] * 7
