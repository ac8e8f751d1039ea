"""Sweeps: what is run, passed over, resumed and refused; the table and the figures."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from slipform.models.imagenet import Unavailable
from slipform.pipelines.errors import ConfigError
from slipform.pipelines.manifest import read_manifest
from slipform.train import cli
from slipform.train.config.recipe import Recipe, SweepRun, load_recipe, load_runs
from slipform.train.config.resolve import resolve
from slipform.train.figures import curves
from slipform.train.figures import records as plots_records
from slipform.train.sweep.jobs import Job
from slipform.train.sweep.sweep import data_differences, make_jobs
from slipform.train.sweep.table import Row, write_tables

RECIPE = """
study = "T1"
description = "Learning rates"
prep = { dataset = "shapes", seed = 7 }
augment = { image_size = 32, resize = 40, crop = "random" }
model = { name = "tiny", options = { width = 8 } }
optimizer = { name = "sgd", lr = 0.05, momentum = 0.9 }
train = { epochs = 2, batch_size = 40, precision = "fp32", log_every_steps = 4 }
data = { threads = 1, executor = "host" }
[[runs]]
name = "lr-0.05"
[runs.reported]
val_accuracy = 0.5
test_accuracy = 0.4
loss = 1.5
seconds = 1000
trainable_parameters = 24814
[[runs]]
name = "lr-huge"
optimizer.lr = 1e30
reported = { outcome = "diverged" }
[[runs]]
name = "imagenet"
model.name = "squeezenet1_1"
model.weights = "imagenet"
reported = { test_accuracy = 0.9 }
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "rates.toml"
    path.write_text(RECIPE)
    return path


def _train(*arguments: object) -> Result:
    return CliRunner().invoke(cli.train, [str(argument) for argument in arguments])


class _InThisProcess:
    """What subprocess.Popen is to a sweep, without the seconds that a new process takes to import
    torch."""

    def __init__(self, job: Job, arguments: list[str], cores: set[int]) -> None:
        result = _train(*arguments)
        job.log.parent.mkdir(parents=True, exist_ok=True)
        job.log.write_text(result.output)
        self.returncode = result.exit_code

    def poll(self) -> int:
        return self.returncode


@pytest.fixture(scope="module", autouse=True)
def surroundings(request: pytest.FixtureRequest) -> Iterator[pytest.MonkeyPatch]:
    """No ImageNet weights, though the machine may have them; no processes, but for the test of
    them."""

    def fail(source: str, name: str) -> None:
        raise Unavailable("no network")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("slipform.train.sweep.sweep.fetch_imagenet", fail)
        patch.setattr("slipform.train.sweep.jobs._start", _InThisProcess)
        yield patch


@pytest.fixture(scope="module")
def sweep(recipe: Path, shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe above with two seeds, two runs at once."""
    out = tmp_path_factory.mktemp("sweep") / "rates"
    result = _train(shapes, "--recipe", recipe, "--all", "--jobs", 2, "--seeds", 2, "--out", out)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"# {recipe} (T1)")
    return out


def _rows(out: Path) -> dict[str, dict[str, str]]:
    return {row["run"]: row for row in csv.DictReader((out / "table.csv").read_text().splitlines())}


def test_the_table_has_what_was_reported_beside_what_was_measured(sweep: Path) -> None:
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
    assert (
        '- Other data: seed is "0", the recipe is for "7" (prep shapes --source DIR --out DIR'
        " --seed 7)" in markdown
    )
    assert "trainable_parameters 24,814 → " in markdown
    assert "--all --out" in markdown
    assert "--seeds 2 --jobs 2`" in markdown
    assert f"- Machine: {summaries[0]['machine']}; torch {summaries[0]['torch']}" in markdown
    assert (sweep / "curves.png").stat().st_size > 10_000


def test_what_ran_and_what_is_left_of_it(sweep: Path) -> None:
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


def test_again_there_is_nothing_to_do(sweep: Path, recipe: Path, shapes: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in sweep.rglob("*.log")}
    result = _train(
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
    assert "started" not in result.stderr


def test_other_settings_are_refused(sweep: Path, recipe: Path, shapes: Path) -> None:
    result = _train(shapes, "--recipe", recipe, "--all", "--out", sweep, "--set", "train.epochs=3")
    assert result.exit_code == 1
    assert "train.epochs = 2, not 3" in result.stderr
    assert "--overwrite" in result.stderr


def test_the_figures_of_a_run_are_there(sweep: Path) -> None:
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
    assert names == {f"{name}.png" for name in wanted}


def test_a_failed_run_is_a_row_and_the_others_go_on(
    recipe: Path, shapes: Path, tmp_path: Path
) -> None:
    text = (
        RECIPE.split("[[runs]]")[0]
        + '[[runs]]\nname = "bad"\nmodel.options.widht = 3\n[[runs]]\nname = "good"\ntrain.epochs'
        " = 1\n"
    )
    (tmp_path / "some.toml").write_text(text)
    result = _train(
        shapes, "--recipe", tmp_path / "some.toml", "--all", "--jobs", 2, "--out", tmp_path / "out"
    )
    assert result.exit_code == 1
    assert "1 of 2 runs failed" in result.stderr
    rows = _rows(tmp_path / "out")
    assert '"width"' in rows["bad"]["note"]
    assert float(rows["good"]["test_accuracy"]) > 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{shapes}", "--recipe", "mnist/fully-connected"], "--recipe mnist/fully-connected:RUN"),
        (["{shapes}", "--recipe", "mnist/fully-connected:fc-nrom"], '"fc-norm"'),
        (["{shapes}", "--all"], "--all takes DATA and --recipe"),
        (["{shapes}", "--recipe", "shapes/demo", "--all", "--out", "x"], "is no sweep"),
        (["{shapes}", "--recipe", "shapes/demo", "--seeds", "3"], "belong to --all"),
    ],
)
def test_mistakes(arguments: list[str], words: str, shapes: Path) -> None:
    result = _train(*[argument.format(shapes=shapes) for argument in arguments])
    assert result.exit_code in (1, 2)
    assert words in result.output


def test_the_order_of_the_jobs(recipe: Path, shapes: Path) -> None:
    jobs = make_jobs(load_recipe(recipe), Path("out"), ["train.seed=5"], read_manifest(shapes), 2)
    assert [str(job) for job in jobs] == [
        f"{name} seed-{seed}" for seed in (5, 6) for name in ("lr-0.05", "lr-huge", "imagenet")
    ]
    assert [job.config.train.seed for job in jobs] == [5, 5, 5, 6, 6, 6]


def test_a_recipe_names_the_data_it_is_for(shapes: Path) -> None:
    manifest = read_manifest(shapes)
    recipe = load_recipe("caltech101/odd-split-resnet18")
    assert (
        "prep caltech101 --source DIR --out DIR --split lists --val-split odd_indices"
        in data_differences(recipe, manifest)
    )
    assert data_differences(replace(recipe, prep={"dataset": "shapes", "seed": 0}), manifest) == ""


def test_runs_that_are_not_done_and_one_that_did_not_diverge(tmp_path: Path) -> None:
    runs = [
        SweepRun("a", {}, {"outcome": "diverged"}),
        SweepRun("b", {"train": {"epochs": 3}}, {"minutes": 5, "loss": 0.1}),
    ]
    recipe = Recipe("any", {}, tuple(runs))
    rows = [
        Row(run, resolve(recipe, run=run), 20, [tmp_path / run.name / "seed-0"], {}) for run in runs
    ]
    text = write_tables(tmp_path, ["# any"], rows).read_text()
    assert (
        "| b | epochs 3 | 300 | loss 0.1 →  | epochs: 3, not 20; times faster: per epoch; 1 of 1"
        " not finished |" in text
    )
    assert "diverged in the report; 1 of 1 not finished" in text


def test_histograms_on_common_bins() -> None:
    """Of a thousand values in uneven buckets, numpy's own histogram of them within what a bucket
    hides."""
    values = np.random.default_rng(0).normal(size=1000)
    limits = np.concatenate([[-5.0], np.sort(np.random.default_rng(1).uniform(-4, 4, 300)), [5.0]])
    counts = np.concatenate([[0], np.histogram(values, limits)[0]])
    edges, shares = plots_records.spread([(limits, counts), (limits * 2, counts)])
    assert (edges[0], edges[-1]) == (-10, 10)
    assert shares.sum(1) == pytest.approx([1, 1])
    wanted = np.histogram(values, edges)[0] / 1000
    assert np.abs(np.cumsum(shares[0]) - np.cumsum(wanted)).max() < 0.01


def test_of_nothing_no_curves_are_drawn(tmp_path: Path) -> None:
    assert curves.draw_sweep(tmp_path, {"a": [tmp_path / "none"]}) is None
    assert not list(tmp_path.iterdir())


def test_a_run_by_its_number_is_the_run_by_its_name(recipe: Path) -> None:
    assert load_runs(f"{recipe}:2") == load_runs(f"{recipe}:lr-huge")
    assert load_runs(str(recipe))[1] == ()
    assert [run.name for run in load_runs(f"{recipe}:imagenet,1")[1]] == ["imagenet", "lr-0.05"]
    with pytest.raises(ConfigError, match=r'"lr-huge"'):
        load_runs(f"{recipe}:1,lr-hug")


def test_some_runs_of_a_sweep(recipe: Path, shapes: Path, tmp_path: Path) -> None:
    """The others have their rows all the same, and a later command goes on with them."""
    result = _train(
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
