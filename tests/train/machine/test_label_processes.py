"""Two processes with several labels or shares of classes, weights, drawn samples and a
fold: the same run as one process with the whole batch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slipform.train.config.resolve import resolve
from slipform.train.records import read_metrics
from slipform.train.run.loop import fit
from tests.processes import forked
from tests.train.run.labeled import dataset_of
from tests.warm import Warm

pytestmark = pytest.mark.timeout(900)

SETS = [
    "model.name=tiny",
    "augment.image_size=32",
    "augment.resize=36",
    "augment.crop=random",
    "train.precision=fp32",
    "train.epochs=1",
    "data.threads=1",
    "data.executor=host",
    "data.sampling=balanced",
    "data.fold=2/3",
]
LOSSES = {
    "multi": ["loss.name=bce", "loss.positive_weights=balanced"],
    "soft": ["loss.name=cross_entropy", "loss.label_smoothing=0.1"],
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", LOSSES)
def test_two_processes_equal_one(
    kind: str, tmp_path: Path, no_figures: None, trainer: Warm
) -> None:
    recipe = tmp_path / "plain.toml"
    recipe.write_text('description = "plain"\n')
    data, given = dataset_of(tmp_path / "data", kind), LOSSES[kind]
    sets = [word for text in (*SETS, *given, "train.batch_size=10") for word in ("--set", text)]
    run = [*sets, str(data), "--recipe", str(recipe), "--out", str(tmp_path / "two")]
    finished = forked(trainer, 2, "tests.train.machine.runs", json.dumps([run]))
    config = resolve(None, [*SETS, *given, "train.batch_size=20"])
    fit(config, data, tmp_path / "one", quiet=True)
    finished()
    _compare(tmp_path / "one", tmp_path / "two", kind)


def _compare(alone: Path, two: Path, kind: str) -> None:
    one, many = (read_metrics(run, "step") for run in (alone, two))
    assert [x["loss"] for x in many] == pytest.approx([x["loss"] for x in one], abs=2e-4), kind
    summaries = [json.loads((run / "summary.json").read_text()) for run in (alone, two)]
    assert summaries[1]["processes"] == 2
    names = ["val_accuracy", "test_accuracy", "test_loss"]
    for key in [*names, "test_f1"] if kind == "multi" else names:
        assert summaries[1][key] == pytest.approx(summaries[0][key], abs=2e-3), (kind, key)
    if kind == "multi":
        thresholds = [list(one["thresholds"].values()) for one in summaries]
        assert thresholds[1] == pytest.approx(thresholds[0], abs=5e-3)
