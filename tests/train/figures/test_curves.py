"""Curves and histograms over the epochs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slipform.train.figures import curves, events
from slipform.train.figures.search import trials_figure


def test_histograms_on_common_bins() -> None:
    """The bins of a thousand values in uneven buckets equal numpy's histogram, up to the width of a
    bucket."""
    values = np.random.default_rng(0).normal(size=1000)
    limits = np.concatenate([[-5.0], np.sort(np.random.default_rng(1).uniform(-4, 4, 300)), [5.0]])
    counts = np.concatenate([[0], np.histogram(values, limits)[0]])
    edges, shares = events.spread([(limits, counts), (limits * 2, counts)])
    assert (edges[0], edges[-1]) == (-10, 10)
    assert shares.sum(1) == pytest.approx([1, 1])
    wanted = np.histogram(values, edges)[0] / 1000
    assert np.abs(np.cumsum(shares[0]) - np.cumsum(wanted)).max() < 0.01


def test_without_records_no_curves_are_drawn(tmp_path: Path) -> None:
    assert curves.draw_sweep(tmp_path, {"a": [tmp_path / "none"]}) is None
    assert not list(tmp_path.iterdir())


def _dashed(line: Any) -> bool:
    return line.get_linestyle() == "--"


def _run(folder: Path, accuracies: list[float | None]) -> Path:
    folder.mkdir()
    lines = [
        {
            "kind": "epoch", "step": 10 * epoch, "epoch": epoch, "train_loss": 2 / epoch,
            "train_accuracy": 0.1 * epoch, "val_loss": None if value is None else 1.0,
            "val_accuracy": value,
        }
        for epoch, value in enumerate(accuracies, 1)
    ]  # fmt: skip
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_reported_values_are_dashed_in_the_color_of_their_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(curves, "save", lambda figure, *_: drawn.append(figure))
    runs = {
        "a": [_run(tmp_path / "a-0", [0.2, 0.3]), _run(tmp_path / "a-1", [0.1, 0.25])],
        "b": [_run(tmp_path / "b", [0.4, 0.5])],
        "c": [tmp_path / "not run"],
    }
    curves.draw_sweep(
        tmp_path,
        runs,
        {
            "a": {"val_accuracy": 0.35, "loss": 1.5, "minutes": 3},
            "b": {"test_accuracy": 0.6},
            "c": {"val_accuracy": 0.9},
        },
        {"b": {"loss": [3.0, 2.0, 1.0]}},
    )
    panels = dict(zip(curves._KEYS, drawn[0].axes, strict=True))
    dashed = {
        key: [(line.get_color(), list(line.get_ydata())) for line in axes.lines if _dashed(line)]
        for key, axes in panels.items()
    }
    measured = [line for line in panels["val_accuracy"].lines if not _dashed(line)]
    (a, _), b = (line.get_color() for line in measured[:2]), measured[2].get_color()
    assert dashed == {
        "train_loss": [(a, [1.5, 1.5]), (b, [3.0, 2.0, 1.0])],
        "val_loss": [],
        "train_accuracy": [],
        "val_accuracy": [(a, [0.35, 0.35]), (b, [0.6, 0.6])],
    }
    low, high = panels["val_accuracy"].get_ylim()
    assert 0 <= low < 0.1, "the axis fits the values"
    assert 0.6 < high < 0.7
    (legend,) = drawn[0].legends
    assert legend.get_title().get_text() == "dashed: the report's values"


def test_an_empty_panel_has_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(curves, "save", lambda figure, *_: drawn.append(figure))
    curves.draw_sweep(tmp_path, {"a": [_run(tmp_path / "a", [None, None])]})
    texts = [[text.get_text() for text in axes.texts] for axes in drawn[0].axes]
    assert texts == [[], ["no val split"], [], ["no val split"]]
    assert not drawn[0].legends[0].get_title().get_text()


def test_without_val_the_test_at_the_end_is_a_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(curves, "save", lambda figure, *_: drawn.append(figure))
    summary = {"test_accuracy": 0.7, "best_epoch": 2}
    monkeypatch.setattr(curves, "read_summary", lambda _: summary)
    curves.draw_sweep(tmp_path, {"a": [_run(tmp_path / "a", [None, None])]})
    (line,) = drawn[0].axes[3].lines
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([2], [0.7])


def test_one_epoch_has_bars_instead_of_single_points(tmp_path: Path) -> None:
    figure = curves.run_figure(_run(tmp_path / "one", [0.4]))
    left, right = figure.axes
    points = [line for axes in (left, right) for line in axes.lines if len(line.get_xdata()) == 1]
    assert not points
    assert [bar.get_height() for bar in right.patches] == [0.1, 0.4]
    assert [label.get_text() for label in right.get_xticklabels()] == ["train 0.1", "val 0.4"]
    assert all(_dashed(line) for line in left.lines if len(line.get_ydata()) == 2)
    left, right = curves.run_figure(_run(tmp_path / "two", [0.4, 0.5])).axes
    assert not right.patches
    assert [list(line.get_ydata()) for line in right.lines] == [[0.1, 0.2], [0.4, 0.5]]


def _ticks(axes: Any) -> list[float]:
    """The ticks of the horizontal axis that can be seen."""
    low, high = axes.get_xlim()
    return [tick for tick in axes.get_xticks() if low <= tick <= high]


def test_a_sweep_of_one_epoch_has_bars_of_means(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(curves, "save", lambda figure, *_: drawn.append(figure))
    runs = {
        "a": [_run(tmp_path / "a-0", [0.2]), _run(tmp_path / "a-1", [0.4])],
        "b": [_run(tmp_path / "b", [0.5]), tmp_path / "not run"],
    }
    curves.draw_sweep(tmp_path, runs, {"a": {"val_accuracy": 0.35}})
    panel = drawn[0].axes[3]
    assert [bar.get_height() for bar in panel.patches] == pytest.approx([0.3, 0.5])
    points = [list(line.get_ydata()) for line in panel.lines if not _dashed(line)]
    assert points == [[0.2, 0.4], [0.5]]
    assert [list(line.get_ydata()) for line in panel.lines if _dashed(line)] == [[0.35, 0.35]]
    assert panel.get_xlabel() == "after epoch 1"
    (legend,) = drawn[0].legends
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b"]
    # With a curve of the report the axis has its epochs.
    curves.draw_sweep(tmp_path, runs, None, {"b": {"val_accuracy": [0.4, 0.5]}})
    assert not drawn[1].axes[3].patches
    assert _ticks(drawn[1].axes[3]) == [1, 2]


def test_a_single_epoch_or_trial_is_at_a_whole_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(curves, "save", lambda figure, *_: drawn.append(figure))
    curves.draw_sweep(tmp_path, {"a": [_run(tmp_path / "a", [0.2])]}, None, {"a": {"loss": [2.0]}})
    assert [_ticks(axes) for axes in drawn[0].axes] == [[1]] * 4
    first, second = trials_figure("accuracy", [0.5], {"train.batch_size": [32]}, set()).axes
    assert _ticks(first) == [1]
    assert 32 in _ticks(second)
    assert all(tick == round(tick) for tick in _ticks(second))
