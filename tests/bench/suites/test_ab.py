"""`bench ab`: an early stop, the row, warnings, runs that fail."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from slipform.bench.race import ab_run, worker
from slipform.bench.result import environment
from slipform.bench.result.result import read_result
from slipform.bench.suites.ab import command
from slipform.pipelines.manifest import read_manifest
from slipform.train.config.recipe import load_one, load_recipe
from slipform.train.config.resolve import resolve


@pytest.fixture
def arms(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[tuple[str, int]]]:
    """Replace the training of both arms by numbers."""

    def replace(a: list[float], b: list[float]) -> list[tuple[str, int]]:
        asked: list[tuple[str, int]] = []

        def isolated(function: Any, *given: Any, seconds: float) -> dict[str, float]:
            assert function is ab_run.train_arm
            arm = Path(given[6]).parent.name
            asked.append((arm, given[4]))
            value = (a if arm == "a" else b)[given[4]]
            if math.isnan(value):
                raise worker.CallFailed("training diverged: the loss of step 3 is nan")
            return {"test_accuracy": value}

        monkeypatch.setattr(worker, "isolated", isolated)
        return asked

    return replace


def _ab(recipe: str, shapes: Path, tmp_path: Path, *more: str) -> tuple[int, str]:
    arguments = [recipe, "--data", str(shapes), "--vs", "optimizer.lr=0.1"]
    files = ["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "ab.json")]
    done = CliRunner().invoke(command, [*arguments, *files, *more])
    return done.exit_code, done.output


def test_it_stops_when_it_is_decided(
    recipe: str, shapes: Path, tmp_path: Path, arms: Callable[..., list[tuple[str, int]]]
) -> None:
    """The arms vary by 0.05 between seeds, their difference by 0.002."""
    a = [0.80, 0.85, 0.75, 0.82, 0.78, 0.8, 0.8, 0.8]
    b = [x + d for x, d in zip(a, [0.01, 0.012, 0.008, 0.011, 0.009] * 2, strict=False)]
    asked = arms(a, b)
    code, printed = _ab(recipe, shapes, tmp_path, "--seeds", "8")
    assert code == 0, printed
    (row,) = read_result(tmp_path / "ab.json").rows
    seeds = row.settings["seeds"]
    assert seeds < 8
    assert asked == [(arm, seed) for seed in range(seeds) for arm in "ab"]
    assert row.settings["decided"] is True
    assert row.settings["correlation"] > 0.99
    assert row.settings["seeds_paired"] <= 6
    assert row.settings["few_values"] is False
    assert "Mean difference B - A with the interval that holds at every look." in printed
    assert "interval of the median (of fewer than six repeats" not in printed
    assert row.settings["seeds_unpaired"] > 100
    assert row.figures["mean_difference"].low > 0
    assert "B has a higher test_accuracy than A: by 0.01" in printed
    assert "if the differences are normal" in printed
    assert "warning" not in printed


def test_it_ends_undecided_and_says_how_many_seeds_it_would_take(
    recipe: str, shapes: Path, tmp_path: Path, arms: Callable[..., list[tuple[str, int]]]
) -> None:
    arms([0.8, 0.81, 0.79], [0.81, 0.80, 0.795])
    code, printed = _ab(recipe, shapes, tmp_path, "--seeds", "3")
    assert code == 0, printed
    assert "not decided after 3 seeds: the mean difference is +0.0017" in printed
    assert "with --alpha 0.05 no result of fewer than 5 seeds decides" in printed
    assert "seeds in pairs" in printed


def test_runs_of_another_commit_are_named(
    recipe: str,
    shapes: Path,
    tmp_path: Path,
    arms: Callable[..., list[tuple[str, int]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arms([0.8, 0.81], [0.81, 0.80])
    stamped = environment.stamp()
    for commit, said in (("first", ""), ("second", "by first: see --runs"), ("first", "")):
        known = stamped.model_copy(update={"commit": commit})
        monkeypatch.setattr(environment, "stamp", lambda known=known: known)
        code, printed = _ab(recipe, shapes, tmp_path, "--seeds", "2")
        assert code == 0, printed
        (row,) = read_result(tmp_path / "ab.json").rows
        assert row.note.endswith(said)
        assert bool(row.note) == bool(said)
        assert said in printed
        for arm in "ab":
            for seed in (0, 1):
                (tmp_path / f"runs/{arm}/seed-{seed}").mkdir(exist_ok=True)


def test_few_values_get_a_warning(
    recipe: str, shapes: Path, tmp_path: Path, arms: Callable[..., list[tuple[str, int]]]
) -> None:
    """Always one image of 60 more: it is decided, and the differences are not normal."""
    a = [0.8, 0.7, 0.75, 0.85, 0.9, 0.8]
    arms(a, [x + 1 / 60 for x in a])
    code, printed = _ab(recipe, shapes, tmp_path, "--seeds", "6")
    assert code == 0, printed
    assert "B has a higher test_accuracy" in printed
    assert "warning: at most half of the 5 differences are distinct" in printed


@pytest.mark.parametrize("pairs", [0, 2])
def test_a_run_that_fails_ends_with_a_row(
    pairs: int, recipe: str, shapes: Path, tmp_path: Path,
    arms: Callable[..., list[tuple[str, int]]],
) -> None:  # fmt: skip
    a = [0.8, 0.81, 0.79]
    asked = arms(a, [*a[:pairs], math.nan, 0.5])
    code, printed = _ab(recipe, shapes, tmp_path, "--seeds", "4")
    assert code == 1
    assert f"arm B, seed {pairs}: training diverged" in printed
    assert asked[-1] == ("b", pairs)
    (row,) = read_result(tmp_path / "ab.json").rows
    assert (row.status, row.settings["seeds"]) == ("failed", pairs)
    assert "training diverged" in row.note
    assert row.settings["a_results"] == " ".join(map(str, a[:pairs]))


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--set", "optimizer.lr=0.1"), "both arms have the same settings"),
        (("--set", "train.seed=5"), "train.seed=5: the seeds are 0, 1, ...; remove it"),
        (("--both", " train.seed = 5"), "remove it, and give --seeds"),
        (("--set", "optimizer.rate=1"), "optimizer.rate"),
    ],
)
def test_wrong_settings_are_refused(
    more: tuple[str, ...], says: str, recipe: str, shapes: Path, tmp_path: Path
) -> None:
    code, printed = _ab(recipe, shapes, tmp_path, *more)
    assert code == 1
    assert says in printed


def test_a_run_of_a_sweep_has_its_name(
    shapes: Path, tmp_path: Path, arms: Callable[..., list[tuple[str, int]]]
) -> None:
    """The base settings of a sweep alone are no run of it."""
    code, printed = _ab("mnist/convolutional", shapes, tmp_path)
    assert code == 1
    assert "mnist/convolutional is a sweep: give one of its runs" in printed
    _, run = load_one("mnist/convolutional:2")
    assert run is not None
    changed = ab_run.settings_of(str(shapes), f"mnist/convolutional:{run.name}", (), 3)
    assert changed == resolve(
        load_recipe("mnist/convolutional"), ["train.seed=3"], read_manifest(shapes), run
    )


def test_a_result_that_the_runs_lack(
    recipe: str, shapes: Path, tmp_path: Path, arms: Callable[..., list[tuple[str, int]]]
) -> None:
    arms([0.8, 0.8], [0.9, 0.9])
    code, printed = _ab(recipe, shapes, tmp_path, "--metric", "val_accuracy")
    assert code == 1
    assert f"no val_accuracy, because {shapes} lacks that split" in printed
    assert "give --metric with what they have (test_accuracy)" in printed
