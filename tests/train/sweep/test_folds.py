"""`train --all --folds K`: a run on each fold, mean and deviation in the table."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest

from slipform.pipelines.loader import Loader
from slipform.pipelines.manifest import read_manifest
from slipform.train.config.resolve import resolve
from slipform.train.records import read_summary
from slipform.train.run.folder import run_config
from tests.train.sweep.commands import InThisProcess, run_train, settings

RECIPE = settings(epochs=1, data="fold_seed = 3")
FOLDS = 3


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slipform.train.sweep.jobs._start", InThisProcess)


def _rows(out: Path) -> list[dict[str, Any]]:
    with open(out / "table.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_mean_and_deviation_over_folds(shapes: Path, tmp_path: Path, no_figures: None) -> None:
    recipe, out = tmp_path / "one.toml", tmp_path / "out"
    recipe.write_text(RECIPE)
    command = (shapes, "--recipe", recipe, "--all", "--folds", FOLDS, "--out", out, "--quiet")
    result = run_train(*command)
    assert result.exit_code == 0, result.output
    runs = [out / "all" / f"seed-0-fold-{number}-of-{FOLDS}" for number in (1, 2, 3)]
    summaries = [read_summary(run) or {} for run in runs]
    (row,) = _rows(out)
    assert row["folds"] == str(FOLDS)
    for key in ("val_accuracy", "test_accuracy"):
        values = [one[key] for one in summaries]
        assert float(row[key]) == pytest.approx(mean(values), abs=1e-5)
        assert float(row[f"{key}_std"]) == pytest.approx(stdev(values), abs=1e-5)
    text = (out / "table.md").read_text()
    assert f"{float(row['val_accuracy']):.4f} ± " in text
    assert "mean ± sample standard deviation over 3 runs with other folds" in text
    assert f"--folds {FOLDS}" in (out / "table.md").read_text()
    # Each run validated its own fold: all folds together are train and val.
    num_val = 0
    for number, run in enumerate(runs, start=1):
        text = (run / "config.toml").read_text()
        assert f'fold = "{number}/{FOLDS}"' in text
        assert "fold_seed = 3" in text
        with Loader(shapes, "val", batch_size=8, training=False, fold=f"{number}/3") as loader:
            num_val += loader.num_samples
    with Loader(shapes, batch_size=8) as train, Loader(shapes, "val", batch_size=8) as val:
        assert num_val == train.num_samples + val.num_samples
    # The same command does what is left, and nothing else.
    before = {run: (run / "summary.json").stat().st_mtime_ns for run in (runs[0], runs[2])}
    shutil.rmtree(runs[1])
    assert run_train(*command).exit_code == 0
    assert read_summary(runs[1]) is not None
    assert {run: (run / "summary.json").stat().st_mtime_ns for run in before} == before
    assert _rows(out)[0]["val_accuracy"] == row["val_accuracy"]
    # Another division of the folder is refused.
    result = run_train(*command, "--set", "data.fold_seed=4")
    assert result.exit_code == 1
    assert "data.fold_seed = 3, not 4" in result.stderr
    result = run_train(*command, "--set", "data.block=8")
    assert result.exit_code == 1
    assert "data.block = 0, not 8" in result.stderr


def test_settings_for_the_dataset_are_repeated_without_a_recipe(
    shapes: Path, tmp_path: Path, no_figures: None
) -> None:
    out, sets = tmp_path / "out", ("model.name=tiny", "train.epochs=1", "augment.image_size=32")
    command = (shapes, "--all", "--folds", 2, "--out", out, *(f"--set={one}" for one in sets))
    result = run_train(*command)
    assert result.exit_code == 0, result.output
    assert "no recipe given: tiny from scratch" in result.stderr
    (row,) = _rows(out)
    assert row["folds"] == "2"
    text = (out / "table.md").read_text()
    assert f"`train {shapes} --all --out {out} --set model.name=tiny" in text
    configs = [run_config(out / "all" / f"seed-0-fold-{k}-of-2") for k in (1, 2)]
    alone = resolve(None, sets, read_manifest(shapes))
    for config, fold in zip(configs, ("1/2", "2/2"), strict=True):
        assert config.optimizer == alone.optimizer
        assert config.train.batch_size == alone.train.batch_size
        assert config.data.fold == fold
    assert run_train(*command).exit_code == 0  # nothing is left
    assert _rows(out) == [row]


def test_folds_need_all_and_a_recipe_without_runs_needs_repeats(
    shapes: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "one.toml"
    recipe.write_text(RECIPE)
    assert "need --all" in run_train(shapes, "--recipe", recipe, "--folds", 3).output
    result = run_train(shapes, "--recipe", recipe, "--all", "--out", tmp_path / "out")
    assert "repeat it with --seeds or --folds" in result.output
