"""Curves and histograms over the epochs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from slipform.train.figures import curves, events


def test_histograms_on_common_bins() -> None:
    """Of a thousand values in uneven buckets, numpy's own histogram of them within what a bucket
    hides."""
    values = np.random.default_rng(0).normal(size=1000)
    limits = np.concatenate([[-5.0], np.sort(np.random.default_rng(1).uniform(-4, 4, 300)), [5.0]])
    counts = np.concatenate([[0], np.histogram(values, limits)[0]])
    edges, shares = events.spread([(limits, counts), (limits * 2, counts)])
    assert (edges[0], edges[-1]) == (-10, 10)
    assert shares.sum(1) == pytest.approx([1, 1])
    wanted = np.histogram(values, edges)[0] / 1000
    assert np.abs(np.cumsum(shares[0]) - np.cumsum(wanted)).max() < 0.01


def test_of_nothing_no_curves_are_drawn(tmp_path: Path) -> None:
    assert curves.draw_sweep(tmp_path, {"a": [tmp_path / "none"]}) is None
    assert not list(tmp_path.iterdir())
