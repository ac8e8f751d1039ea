"""Two processes of torchrun with several labels or shares of classes, weights, drawn samples and a
fold: the same run as one process with the whole batch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slipform.train.config.resolve import resolve
from slipform.train.records import read_metrics
from slipform.train.run.loop import fit
from tests.processes import finish, torchrun
from tests.train.run.labeled import dataset_of

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


@pytest.mark.parametrize("kind", LOSSES)
def test_two_processes_equal_one(kind: str, tmp_path: Path, no_figures: None) -> None:
    data, recipe, given = dataset_of(tmp_path / "data", kind), tmp_path / "plain.toml", LOSSES[kind]
    recipe.write_text('description = "plain"\n')
    sets = [word for text in (*SETS, *given, "train.batch_size=10") for word in ("--set", text)]
    ending = ["--recipe", recipe, "--out", tmp_path / "two"]
    two = torchrun(2, "-m", "slipform.train.cli", *sets, data, *ending)
    fit(resolve(None, [*SETS, *given, "train.batch_size=20"]), data, tmp_path / "one", quiet=True)
    finish(two)
    one, many = (read_metrics(tmp_path / name, "step") for name in ("one", "two"))
    assert [x["loss"] for x in many] == pytest.approx([x["loss"] for x in one], abs=2e-4)
    summaries = [
        json.loads((tmp_path / name / "summary.json").read_text()) for name in ("one", "two")
    ]
    for key in (
        "val_accuracy",
        "test_accuracy",
        "test_loss",
        *(["test_f1"] if kind == "multi" else []),
    ):
        assert summaries[1][key] == pytest.approx(summaries[0][key], abs=2e-3)
    if kind == "soft":
        return
    thresholds = [list(one["thresholds"].values()) for one in summaries]
    assert thresholds[1] == pytest.approx(thresholds[0], abs=5e-3)
