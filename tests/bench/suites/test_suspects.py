"""`bench suspects`: its average precision, and one small run of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from slipform.bench.race.suspect_run import average_precision, find_flipped, train_seconds

SETS = (
    "train.epochs=1", "augment.image_size=32", "augment.resize=36", "data.threads=1",
    "model.options.width=8",
)  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
def test_average_precision_is_that_of_scikit_learn(seed: int) -> None:
    draws = np.random.default_rng(seed)
    positive, scores = draws.random(200) < 0.1, draws.permutation(200).astype(float)
    expected = average_precision_score(positive, scores)
    assert average_precision(positive, scores) == pytest.approx(expected)


def test_a_small_run(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slipform.train.run.finish._draw", lambda *_: None)
    found = find_flipped(str(shapes), "shapes/demo", SETS, "cpu", str(tmp_path), 0.05, 1)
    assert "slipform, mean margin" in found
    for figures in found.values():
        assert set(figures) == {"average_precision_share", "precision_share", "recall_share"}
        assert all(0 <= value <= 1 for value in figures.values())
    assert not list(tmp_path.glob("data-*"))
    assert (tmp_path / "run-1" / "samples" / "epoch-0001.safetensors").exists()
    assert train_seconds(str(shapes), "shapes/demo", SETS, "cpu", str(tmp_path), False) > 0
    assert not (tmp_path / "cost" / "samples").exists()
