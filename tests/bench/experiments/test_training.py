"""`bench experiments --train` trains the runs without a result and copies the tables."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from slipform.bench.commands import experiments
from slipform.bench.experiments import page, runs, training
from slipform.pipelines.errors import SlipformError
from slipform.pipelines.manifest import Manifest, write_manifest
from slipform.train.config.recipe import Recipe, load_recipe
from slipform.train.sweep.table import stated_settings


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "experiments"
    found.mkdir()
    for name in (page.CHECKS, "differences.md"):
        shutil.copy(experiments.FOLDER / name, found / name)
    return found


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Folders with the manifests of three of the five datasets, and one that is no dataset."""
    for name, recipe in (
        ("mnist", "mnist/convolutional"),
        ("cifar10", "cifar10/plain"),
        ("halves", "caltech101/alexnet-imagenet"),
    ):
        (tmp_path / "data" / name).mkdir(parents=True)
        options = dict(load_recipe(recipe).prep)
        manifest = Manifest(
            dataset=options.pop("dataset"), options=options, classes=["a", "b"], splits={},
            mean=[0.5] * 3, std=[0.2] * 3, split_rule="",
        )  # fmt: skip
        write_manifest(tmp_path / "data" / name, manifest)
    (tmp_path / "data" / "notes").mkdir()
    return tmp_path / "data"


@pytest.fixture
def swept(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, list[str]]]:
    """Stands in for sweeps: every requested run gets a result, and one run of E1 fails."""
    calls: list[tuple[str, str, list[str]]] = []

    def run_sweep(recipe: Recipe, data: Path, out: Path, *, only: Any, **_: Any) -> None:
        calls.append((recipe.study, data.name, [run.name for run in only]))
        out.mkdir(parents=True)
        lines = ["run,seeds,settings,note"]
        lines += [f"{run.name},1,{stated_settings(recipe, run)}," for run in only]
        (out / "table.csv").write_text("\n".join(lines) + "\n")
        (out / "table.md").write_text(f"# {recipe.name} ({recipe.study})\n")
        if recipe.study == "E1":
            raise SlipformError("1 of 5 runs failed")

    monkeypatch.setattr(training, "run_sweep", run_sweep)
    return calls


def _states(folder: Path, study: str) -> set[str]:
    return {one.state for one in runs.outcomes(folder) if one.study == study}


def test_runs_that_wait_for_weights_are_trained_on_their_data(
    folder: Path, data: Path, swept: list[Any], tmp_path: Path
) -> None:
    arguments = [str(folder), "--train", "waiting", "--data", str(data), "--runs", str(tmp_path)]
    result = CliRunner().invoke(experiments.command, arguments)
    assert [study for study, _, _ in swept] == [
        *("A3", "A4", "A5", "A6", "A7", "B3", "B4", "B5", "B6", "E3", "E4", "E5", "E6"),
    ]
    assert {name for study, name, _ in swept if study[0] in "AB"} == {"halves"}
    assert ("E3", "cifar10", ["resnet18-imagenet-fine-tuned"]) in swept
    assert result.exit_code == 1
    for study in ("C2", "D4"):  # these studies have no data
        assert f"{study}: no dataset in {data}; run: prep" in result.output
    assert _states(folder, "A3") == {"measured"}
    assert _states(folder, "C2") == {"waits for weights"}
    assert "- 1 have" not in (folder / "README.md").read_text(encoding="utf-8")
    before = len(swept)
    CliRunner().invoke(experiments.command, arguments)
    assert len(swept) == before, "nothing is trained twice"


def test_missing_runs_are_trained_after_a_failure_too(
    folder: Path, data: Path, swept: list[Any], tmp_path: Path
) -> None:
    said: list[str] = []
    problems = training.train_studies(folder, data, tmp_path / "out", "missing", said.append)
    assert len(said) == len(swept) == 29 - 5 - 4  # C1 to C5 and D1 to D4 have no data
    assert ("E2", "mnist") in {(study, name) for study, name, _ in swept}
    assert "E1: 1 of 5 runs failed" in problems
    assert _states(folder, "E1") == {"measured"}, "its table is copied although a run failed"


def test_a_folder_of_data_must_exist(folder: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        experiments.command, [str(folder), "--train", "missing", "--data", str(tmp_path / "none")]
    )
    assert result.exit_code == 1
    assert "is no folder" in result.output
