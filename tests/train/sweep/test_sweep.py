"""Sweeps: runs that are started, skipped, resumed and refused; the table and the figures."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from slipform.models.imagenet import Unavailable
from slipform.models.registry import fetch_weights
from slipform.models.spec import ModelConfig
from slipform.pipelines.files import locked
from slipform.pipelines.manifest import read_manifest, write_manifest
from slipform.train.run.folder import LOCK
from slipform.train.sweep.table import TABLES, write_tables
from tests.train.sweep.commands import InThisProcess, run_train


@pytest.fixture(scope="module", autouse=True)
def surroundings(request: pytest.FixtureRequest) -> Iterator[pytest.MonkeyPatch]:
    """Hide ImageNet weights and other processes of the machine, and replace processes."""

    def fail(config: ModelConfig) -> None:
        if config.weights == "imagenet":
            raise Unavailable("no network")
        fetch_weights(config)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("slipform.train.sweep.sweep.fetch_weights", fail)
        patch.setattr("slipform.train.sweep.jobs._start", InThisProcess)
        patch.setattr("slipform.train.run.counters.others_cpu_seconds", lambda: 0.0)  # quiet
        yield patch


@pytest.fixture(scope="module")
def sweep(recipe: Path, shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe with two seeds, two runs at a time."""
    out = tmp_path_factory.mktemp("sweep") / "rates"
    result = run_train(shapes, "--recipe", recipe, "--all", "--jobs", 2, "--seeds", 2, "--out", out)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"# {recipe} (T1)")
    return out


def _rows(out: Path) -> dict[str, dict[str, str]]:
    return {row["run"]: row for row in csv.DictReader((out / "table.csv").read_text().splitlines())}


def test_the_table_has_reported_and_measured_results(sweep: Path) -> None:
    summaries = [
        json.loads((sweep / "lr-0.05" / f"seed-{seed}" / "summary.json").read_text())
        for seed in (0, 1)
    ]
    rows = _rows(sweep)
    row = rows["lr-0.05"]
    for key in ("val_accuracy", "test_accuracy", "seconds", "images_per_second"):
        values = [summary[key] for summary in summaries]
        assert float(row[key]) == pytest.approx(np.mean(values), abs=1e-5)
        assert float(row[f"{key}_std"]) == pytest.approx(np.std(values, ddof=1), abs=1e-5)
    assert float(row["points"]) == pytest.approx(
        100 * (np.mean([s["test_accuracy"] for s in summaries]) - 0.4), abs=0.01
    )
    assert float(row["times_faster"]) == pytest.approx(1000 / float(row["seconds"]), rel=0.01)
    assert (
        row["optimizer.lr"],
        rows["lr-huge"]["optimizer.lr"],
        rows["imagenet"]["model.name"],
    ) == (
        "0.05",
        "1e+30",
        "squeezenet1_1",
    )
    assert float(row["trainable_parameters"]) == summaries[0]["trainable_parameters"]
    assert summaries[0]["best_epoch"] >= 1
    assert row["seeds"] == "2"
    assert [rows[name]["note"] for name in rows] == [
        "",
        "diverged, as reported",
        "weights not available here",
    ]
    markdown = (sweep / "table.md").read_text()
    assert f"{float(row['test_accuracy']):.4f} ± " in markdown
    assert "- ±: mean ± sample standard deviation over 2 runs with other seeds" in markdown
    assert (
        '- Other data: seed is "0", the recipe is for "7" (prep shapes --source DIR --out DIR'
        " --seed 7)" in markdown
    )
    assert "trainable_parameters 24,814 → " in markdown
    assert "--all --out" in markdown
    assert "--seeds 2 --jobs 2`" in markdown
    assert f"- Machine: {summaries[0]['machine']}; torch {summaries[0]['torch']}" in markdown
    assert (sweep / "curves.png").stat().st_size > 10_000


def test_finished_runs_keep_weights_but_no_checkpoints(sweep: Path) -> None:
    assert not (sweep / "imagenet").exists()
    for name, finished in (("lr-0.05", True), ("lr-huge", False)):
        for seed in (0, 1):
            run = sweep / name / f"seed-{seed}"
            assert (
                (run / "summary.json").exists() == (run / "best.safetensors").exists() == finished
            )
            assert f"seed = {seed}\n" in (run / "config.toml").read_text()
            assert "shapes" in run.with_suffix(".log").read_text() or not finished
    assert not (sweep / "lr-0.05" / "seed-0" / "checkpoints").exists()
    accuracies = [
        (sweep / "lr-0.05" / f"seed-{seed}" / "metrics.jsonl").read_text() for seed in (0, 1)
    ]
    assert accuracies[0] != accuracies[1]


def test_the_same_command_again_runs_nothing(
    sweep: Path, recipe: Path, shapes: Path, tmp_path: Path
) -> None:
    """The table is written again with the new command. Checkpoints of a run that finished after its
    sweep was killed are deleted."""
    sweep = shutil.copytree(sweep, tmp_path / "sweep")
    before = {path: path.stat().st_mtime_ns for path in sweep.rglob("*.log")}
    checkpoints = sweep / "lr-0.05/seed-0/checkpoints"
    checkpoints.mkdir()
    result = run_train(
        shapes,
        "--recipe",
        recipe,
        "--all",
        "--seeds",
        2,
        "--out",
        sweep,
        "--set",
        "data.prefetch=7",
    )
    assert result.exit_code == 0, result.output
    assert {path: path.stat().st_mtime_ns for path in sweep.rglob("*.log")} == before
    assert not checkpoints.exists()
    assert "started" not in result.stderr
    assert "--set data.prefetch=7 --seeds 2`" in (sweep / "table.md").read_text()


def test_other_settings_are_refused(sweep: Path, recipe: Path, shapes: Path) -> None:
    result = run_train(
        shapes, "--recipe", recipe, "--all", "--out", sweep, "--set", "train.epochs=3"
    )
    assert result.exit_code == 1
    assert "train.epochs = 2, not 3" in result.stderr
    assert "--overwrite" in result.stderr


def test_every_run_has_figures(sweep: Path) -> None:
    names = {path.name for path in (sweep / "lr-0.05" / "seed-0" / "figures").iterdir()}
    wanted = {
        "curves",
        "per_class",
        "confusion",
        "kernels",
        "first_outputs",
        "first_batch",
        "first_layer",
    }
    # There is a figure of confused pairs only if the net confuses classes.
    assert names - {"confused_pairs.png"} == {f"{name}.png" for name in wanted}


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize(
    ("bad", "why"),
    [
        pytest.param("model.options.widht = 3", '"width"', marks=pytest.mark.slow),
        ('model.weights = "IMAGENET1K_V1"', "no such file or folder"),
    ],
)
def test_a_failed_run_is_a_row_and_the_others_go_on(
    bad: str,
    why: str,
    recipe: Path,
    shapes: Path,
    tmp_path: Path,
) -> None:
    text = (
        recipe.read_text().split("[[runs]]")[0]
        + f'[[runs]]\nname = "bad"\n{bad}\n[[runs]]\nname = "good"\ntrain.epochs = 1\n'
    )
    (tmp_path / "some.toml").write_text(text)
    result = run_train(
        shapes, "--recipe", tmp_path / "some.toml", "--all", "--jobs", 2, "--out", tmp_path / "out"
    )
    assert result.exit_code == 1
    assert "1 of 2 runs failed" in result.stderr
    rows = _rows(tmp_path / "out")
    assert why in rows["bad"]["note"]
    (path,) = (tmp_path / "out").glob("good/**/summary.json")
    wanted = json.loads(path.read_text())["test_accuracy"]
    assert float(rows["good"]["test_accuracy"]) == pytest.approx(wanted, abs=5.1e-5)  # 4 digits


@pytest.mark.usefixtures("no_figures")
def test_a_full_disk_for_tables_and_figures_does_not_end_a_run(
    recipe: Path, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Failed writes during the runs are ignored. An error is reported at the end."""
    calls = 0

    def full(out: Path, *arguments: object) -> Path:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise OSError(28, "No space left on device", str(out / "table.md"))
        return write_tables(out, *arguments)

    monkeypatch.setattr("slipform.train.sweep.sweep.write_tables", full)
    monkeypatch.setattr("slipform.train.figures.curves.draw_sweep", lambda *_: 1 / 0)
    arguments = (shapes, "--recipe", f"{recipe}:lr-0.05", "--all", "--set", "train.epochs=1")
    result = run_train(*arguments, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert _rows(tmp_path)["lr-0.05"]["test_accuracy"] != ""
    calls = 0
    result = run_train(*arguments, "--out", tmp_path)
    assert result.exit_code == 1
    assert "No space left on device" in result.stderr


@pytest.mark.usefixtures("no_figures")
def test_some_runs_of_a_sweep(recipe: Path, shapes: Path, tmp_path: Path) -> None:
    """The other runs have their rows, and a later command continues them."""
    result = run_train(
        shapes,
        "--recipe",
        f"{recipe}:lr-0.05",
        "--all",
        "--set",
        "train.epochs=1",
        "--out",
        tmp_path,
    )
    assert result.exit_code == 0, result.output
    rows = _rows(tmp_path)
    assert list(rows) == ["lr-0.05", "lr-huge", "imagenet"]
    assert rows["lr-0.05"]["test_accuracy"] != ""
    assert "1 of 1 not finished" in rows["lr-huge"]["note"]
    assert not (tmp_path / "lr-huge").exists()


def test_a_sweep_refuses_finished_runs_of_other_data(
    sweep: Path, recipe: Path, shapes: Path, tmp_path: Path
) -> None:
    """The same classes and numbers of images, with other pixels."""
    other = tmp_path / "other"
    shutil.copytree(shapes, other)
    manifest = read_manifest(shapes)
    train = manifest.split("train").model_copy(update={"sha256": "0" * 64, "index_sha256": ""})
    splits = {**manifest.splits, "train": train}
    write_manifest(other, manifest.model_copy(update={"splits": splits}))
    before = {path: path.stat().st_mtime_ns for path in sweep.rglob("*") if path.is_file()}
    result = run_train(other, "--recipe", recipe, "--all", "--seeds", 2, "--out", sweep)
    assert result.exit_code == 1
    assert "was trained on another dataset: train has other images" in result.stderr
    assert "--overwrite" in result.stderr
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize("name", [*TABLES, "lr-0.05", "lr-0.05/seed-0", "lr-0.05/seed-0.log"])
def test_a_sweep_writes_through_no_link_out_of_its_folder(
    name: str, recipe: Path, shapes: Path, tmp_path: Path
) -> None:
    path = tmp_path / "out" / name
    path.parent.mkdir(parents=True)
    path.symlink_to(tmp_path / "elsewhere")
    result = run_train(shapes, "--recipe", recipe, "--all", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert f"{path} is a link to" in result.stderr
    assert not (tmp_path / "elsewhere").exists()


def test_two_sweeps_never_share_a_folder(recipe: Path, shapes: Path, tmp_path: Path) -> None:
    with locked(tmp_path / LOCK, "another sweep"):
        result = run_train(shapes, "--recipe", recipe, "--all", "--out", tmp_path)
    assert result.exit_code == 1
    assert f"another sweep is working in {tmp_path}" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]
