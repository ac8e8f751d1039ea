"""A sweep before its runs: recipes, jobs, rows, mistakes."""

from __future__ import annotations

import csv
import errno
import os
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from slipform.pipelines.errors import ConfigError
from slipform.pipelines.manifest import read_manifest
from slipform.train.config.recipe import Recipe, SweepRun, load_recipe, load_runs
from slipform.train.config.resolve import resolve
from slipform.train.config.run_config import RunConfig
from slipform.train.records import write_summary
from slipform.train.sweep.jobs import Job, Repeats, _start, make_jobs
from slipform.train.sweep.sweep import data_differences, run_sweep
from slipform.train.sweep.table import Row, stated_settings, write_tables
from tests.train.sweep.commands import run_train


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{shapes}", "--recipe", "mnist/fully-connected"], "--recipe mnist/fully-connected:RUN"),
        (["{shapes}", "--recipe", "mnist/fully-connected:fc-nrom"], '"fc-norm"'),
        (["{shapes}", "--all"], "--all needs the --recipe of a sweep, or --seeds"),
        (["{shapes}", "--recipe", "shapes/demo", "--all", "--out", "x"], "is no sweep"),
        (["{shapes}", "--recipe", "shapes/demo", "--seeds", "3"], "need --all"),
    ],
)
def test_mistakes_have_clear_messages(arguments: list[str], words: str, shapes: Path) -> None:
    result = run_train(*[argument.format(shapes=shapes) for argument in arguments])
    assert result.exit_code in (1, 2)
    assert words in result.output


def test_the_order_of_the_jobs(recipe: Path, shapes: Path) -> None:
    jobs = make_jobs(
        load_recipe(recipe), Path("out"), ["train.seed=5"], read_manifest(shapes), Repeats(2)
    )
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


@pytest.mark.parametrize(
    ("test", "val", "text"),
    [
        (1 / 6, 0.5, "test accuracy 0.1667, 62 s"),
        (None, 0.5, "val accuracy 0.5000, 62 s"),
        (None, None, "no images in val or test, 62 s"),
    ],
)
def test_the_result_of_a_job(
    test: float | None, val: float | None, text: str, tmp_path: Path
) -> None:
    job = Job(SweepRun("a", {}, {}), RunConfig(), tmp_path)
    assert job.result == ""
    summary = {"test_accuracy": test, "val_accuracy": val, "best_epoch": 1, "epochs": 1}
    speed = {"seconds": 61.8, "images_per_second": 9.0, "compiled": False}
    versions = dict.fromkeys(("machine", "torch", "precision", "executor"), "x")
    write_summary(tmp_path, summary | speed | versions)
    assert job.result == text


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


def test_a_run_by_its_number_is_the_run_by_its_name(recipe: Path) -> None:
    assert load_runs(f"{recipe}:2") == load_runs(f"{recipe}:lr-huge")
    assert load_runs(str(recipe))[1] == ()
    assert [run.name for run in load_runs(f"{recipe}:imagenet,1")[1]] == ["imagenet", "lr-0.05"]
    with pytest.raises(ConfigError, match=r'"lr-huge"'):
        load_runs(f"{recipe}:1,lr-hug")


@pytest.mark.parametrize("dataset", ["shapes", "mnist"])
def test_a_sweep_on_other_data_does_not_have_the_recipes_settings(
    dataset: str, recipe: Path, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its table is not evidence for the recipe."""
    monkeypatch.setattr("slipform.train.sweep.sweep.run_jobs", lambda *_, **__: None)
    made_for = replace(load_recipe(recipe), prep={"dataset": dataset})
    run_sweep(made_for, shapes, tmp_path / "out", quiet=True)
    with open(tmp_path / "out/table.csv", encoding="utf-8", newline="") as file:
        written = {row["run"]: row["settings"] for row in csv.DictReader(file)}
    stated = {run.name: stated_settings(made_for, run) for run in made_for.runs}
    assert (written == stated) == (dataset == "shapes")
    assert len(set(written.values())) == len(stated) == 3


def test_another_description_is_no_other_setting(recipe: Path) -> None:
    before = load_recipe(recipe)
    described = replace(before, base={**before.base, "description": "in other words"})
    faster = replace(before, base={**before.base, "optimizer": {"lr": 1.0}})
    for run in before.runs:
        assert stated_settings(described, run) == stated_settings(before, run)
        assert stated_settings(faster, run) != stated_settings(before, run)


def test_a_process_whose_cores_cannot_be_set_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody would end it, or wait for it."""
    started: list[int] = []

    def fail(pid: int, cores: set[int]) -> None:
        started.append(pid)
        raise OSError(errno.EINVAL, "for the test")

    monkeypatch.setattr(os, "sched_setaffinity", fail)
    with pytest.raises(OSError, match="for the test"):
        _start(Job(SweepRun("a", {}, {}), RunConfig(), tmp_path / "a"), ["--help"], {0})
    assert len(started) == 1
    assert not psutil.pid_exists(started[0])
