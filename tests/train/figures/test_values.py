"""The figures of a judgment and of searches show the numbers that they are given."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from slipform.train.figures.calibration import reliability_figure
from slipform.train.figures.classes import pairs_figure, per_class_figure
from slipform.train.figures.search import rate_figure, trials_figure
from slipform.train.scores.answers import Answers
from slipform.train.scores.judgment import judge


def _answers(seed: int) -> Answers:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 5, 300)
    logits = 3 * (rng.normal(size=(300, 5)) + np.eye(5)[labels])
    return Answers(logits.astype(np.float32), labels, np.arange(300))


def test_reliability_before_and_after_the_temperature() -> None:
    found = judge("test", list("abcde"), _answers(0), _answers(1)).calibration
    assert found.after is not None
    axes = reliability_figure(found).axes
    for column, one in enumerate((found.before, found.after)):
        upper, lower = axes[column], axes[2 + column]
        heights = [bar.get_height() for bar in upper.patches]
        assert heights == np.nan_to_num(one.accuracy).tolist()
        there = one.images > 0
        points = upper.lines[-1].get_xydata()
        np.testing.assert_array_equal(points[:, 0], one.confidence[there])
        np.testing.assert_array_equal(points[:, 1], one.accuracy[there])
        assert [bar.get_height() for bar in lower.patches] == one.images.tolist()
        middles = [bar.get_x() + bar.get_width() / 2 for bar in upper.patches]
        np.testing.assert_allclose(middles, (np.arange(15) + 0.5) / 15)
        assert f"ECE {float(one.error):.3f}" in upper.get_title()
    assert f"{found.temperature:.2f}" in axes[1].get_title()


def test_the_accuracy_of_classes_with_intervals_of_wilson() -> None:
    confusion = np.array([[5, 3, 0], [2, 96, 2], [0, 0, 4]])
    axes = per_class_figure(confusion, ["a", "b", "c"]).axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["a  (8)", "b  (100)", "c  (4)"]
    assert [bar.get_width() for bar in axes.patches] == [5 / 8, 96 / 100, 1.0]
    (lines,) = axes.collections
    for segment, right, images in zip(lines.get_segments(), (5, 96, 4), (8, 100, 4), strict=True):
        theirs = stats.binomtest(right, images).proportion_ci(0.95, method="wilson")
        assert segment[:, 0].tolist() == pytest.approx([theirs.low, theirs.high], abs=1e-4)
    assert axes.lines[0].get_xdata()[0] == 105 / 112


def test_pairs_with_their_share() -> None:
    confusion = np.array([[5, 3, 0], [2, 96, 2], [0, 0, 4]])
    figure = pairs_figure(confusion, ["a", "b", "c"])
    assert figure is not None
    axes = figure.axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["a → b", "b → a", "b → c"]
    assert [bar.get_width() for bar in axes.patches] == [3, 2, 2]
    assert [text.get_text().strip() for text in axes.texts] == ["3 (38%)", "2 (2%)", "2 (2%)"]


def test_losses_by_rate_and_trials() -> None:
    rates, losses, smoothed = [1e-3, 1e-2, 1e-1], [2.0, 1.5, 1.8], [2.0, 1.7, 1.75]
    axes = rate_figure(rates, losses, smoothed, 0.02).axes[0]
    assert [line.get_ydata().tolist() for line in axes.lines[:2]] == [losses, smoothed]
    assert axes.lines[2].get_xdata()[0] == 0.02
    assert axes.get_xscale() == "log"
    settings = {"optimizer.lr": [0.1, 0.01, 0.02], "model.name": ["one", "two", "one"]}
    panels = trials_figure("accuracy", [0.5, 0.4, 0.7], settings, {"optimizer.lr"}).axes
    values, best = (line.get_ydata() for line in panels[0].lines)
    assert values.tolist() == [0.5, 0.4, 0.7]
    assert best.tolist() == [0.5, 0.5, 0.7]
    points = panels[1].collections[0].get_offsets()
    assert points.tolist() == [[0.1, 0.5], [0.01, 0.4], [0.02, 0.7]]
    assert [panel.get_xscale() for panel in panels] == ["linear", "log", "linear"]
