"""`bench experiments --train` trains the runs without a result and copies the tables."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from click.testing import CliRunner
from safetensors.torch import load_file

from slipform.bench.commands import experiments
from slipform.bench.experiments import runs, training
from slipform.pipelines.errors import SlipformError
from slipform.pipelines.manifest import Manifest, read_manifest, write_manifest
from slipform.train.config.recipe import Recipe, load_recipe
from slipform.train.sweep.table import stated_settings

ROOT = Path(__file__).resolve().parents[3]


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


def test_runs_with_fewer_seeds_are_trained_again(
    folder: Path, data: Path, swept: list[Any], tmp_path: Path
) -> None:
    for number, (seeds, again) in enumerate(((1, True), (1, False), (2, True))):
        swept.clear()
        out = tmp_path / f"out-{number}"
        training.train_studies(folder, data, out, "missing", lambda _: None, seeds=seeds)
        assert ("E2" in [study for study, _, _ in swept]) == again


def test_a_folder_of_data_must_exist(folder: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        experiments.command, [str(folder), "--train", "missing", "--data", str(tmp_path / "none")]
    )
    assert result.exit_code == 1
    assert "is no folder" in result.output


def test_tables_of_another_machine_are_kept(
    folder: Path, data: Path, swept: list[Any], tmp_path: Path
) -> None:
    """A table with the runs that were missing does not replace the one with the other results."""
    recipe = load_recipe("mnist/convolutional")
    own = folder / "mnist-convolutional"
    own.mkdir()
    (own / "table.md").write_text(f"# {recipe.name} (E2)\n")
    line = f"base,3,{stated_settings(recipe, recipe.runs[0])},"
    (own / "table.csv").write_text(f"run,seeds,settings,note\n{line}\n")
    training.train_studies(folder, data, tmp_path / "out", "missing", lambda _: None)
    (names,) = (names for study, _, names in swept if study == "E2")
    assert names == [run.name for run in recipe.runs[1:]]
    assert line in (own / "table.csv").read_text()
    assert _states(folder, "E2") == {"measured"}
    training._copy_tables(tmp_path / "out" / own.name, own)
    assert sorted(path.name for path in folder.glob("mnist-conv*")) == [
        "mnist-convolutional",
        "mnist-convolutional-2",
    ]


@pytest.mark.slow
def test_files_of_weights_that_were_put_in_place_are_trained_from(
    folder: Path, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real sweeps in processes of their own: with no file they wait, with a file they train.

    The stand-in has random weights in the form of torchvision's file; its checksum is in its name.
    """
    stand_in = tmp_path / "stand-in.pth"
    torch.manual_seed(0)
    torch.save(torchvision.models.resnet18().state_dict(), stand_in)
    digest = hashlib.sha256(stand_in.read_bytes()).hexdigest()[:8]
    name = f"resnet18-{digest}.pth"
    # Processes of the sweep read this module as they start.
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules/sitecustomize.py").write_text(
        "import torchvision\n"
        "entry = torchvision.models.ResNet18_Weights.IMAGENET1K_V1\n"
        f'object.__setattr__(entry.value, "url", "http://127.0.0.1:9/{name}")\n'
    )
    entry = torchvision.models.ResNet18_Weights.IMAGENET1K_V1
    url = entry.value.url
    recipe = load_recipe("cifar10/fine-tuning-32")
    head = replace(recipe, runs=recipe.runs[1:2])
    monkeypatch.setattr(training, "studies", lambda: [head])
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'modules'}:{ROOT}")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    small = tmp_path / "data/cifar10"
    shutil.copytree(shapes, small)
    manifest = read_manifest(small)
    options = {**manifest.options, "val_fraction": 0}
    update = {"dataset": "cifar10", "options": options}
    write_manifest(small, manifest.model_copy(update=update))
    arguments = [str(folder), "--train", "waiting", "--data", str(tmp_path / "data")]
    arguments += ["--runs", str(tmp_path / "runs")]
    out = tmp_path / "runs/cifar10-fine-tuning-32"
    object.__setattr__(entry.value, "url", f"http://127.0.0.1:9/{name}")
    try:
        assert CliRunner().invoke(experiments.command, arguments).exit_code == 0
        assert "weights not available here" in (out / "table.md").read_text()
        assert not list(out.rglob("summary.json"))
        checkpoints = tmp_path / "torch/hub/checkpoints"
        checkpoints.mkdir(parents=True, exist_ok=True)
        shutil.copy(stand_in, checkpoints / name)
        assert CliRunner().invoke(experiments.command, arguments).exit_code == 0
    finally:
        object.__setattr__(entry.value, "url", url)
    assert [path.parts[-3] for path in out.rglob("summary.json")] == ["head"]
    best = load_file(out / "head/seed-0/best.safetensors")
    given = torch.load(stand_in, weights_only=True)
    assert torch.equal(best["layer1.0.conv1.weight"], given["layer1.0.conv1.weight"])  # frozen
    states = {one.run.name: one.state for one in runs.outcomes(folder) if one.study == "E5"}
    assert (states["head"], states["all"]) == ("measured", "waits for weights")
