"""Paired runs: equal batches and first weights, an early stop, runs that are used again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from slipform.bench.race import ab_run, worker
from slipform.bench.race.ab_run import train_arm
from slipform.bench.result.result import read_result
from slipform.bench.suites.ab import command
from slipform.pipelines.batch import Batch
from slipform.pipelines.errors import SlipformError
from slipform.train.run import steps
from tests.train.drawing import without_figures

RECIPE = """
description = "small"
[augment]
image_size = 24
resize = 28
[model]
name = "tiny"
[train]
epochs = 1
batch_size = 40
precision = "fp32"
[data]
executor = "host"
threads = 1
"""
Seen = list[tuple[torch.Tensor, dict[str, torch.Tensor]]]


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    (tmp_path / "small.toml").write_text(RECIPE)
    return str(tmp_path / "small.toml")


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """The images of each step, and the weights before it."""
    kept: Seen = []
    original = steps.train_step  # type: ignore[attr-defined]

    def watched(state: Any, batches: Any, *more: Any) -> Any:
        batch = next(batches)
        weights = {name: x.clone() for name, x in state.model.state_dict().items()}
        copy = Batch(batch.images.clone(), batch.labels, batch.indices, batch.mix)
        kept.append((copy.images, weights))
        return original(state, iter([copy]), *more)

    monkeypatch.setattr(steps, "train_step", watched)
    without_figures(monkeypatch)
    return kept


@pytest.mark.parametrize(
    ("b", "differ"),
    [
        (("optimizer.lr=0.02",), set()),
        (("model.options.width=16", "model.head=mlp"), {"classifier"}),
    ],
)
def test_both_arms_see_the_same_batches_and_begin_with_the_same_weights(
    b: tuple[str, ...], differ: set[str], shapes: Path, recipe: str, tmp_path: Path, seen: Seen
) -> None:
    """A new head draws other random numbers: without the copy, all other layers would differ."""
    a = ("model.options.width=16",)
    for name, sets in (("a", a), ("b", b)):
        given = (str(shapes), recipe, sets, a, 3, "cpu", str(tmp_path / name))
        found = train_arm(*given)
        assert 0 <= found["test_accuracy"] <= 1
    first, second = seen[:6], seen[6:]
    for (images, _), (others, _) in zip(first, second, strict=True):
        assert torch.equal(images, others)
    weights, copied = first[0][1], second[0][1]
    own = {name for name in weights.keys() & copied.keys() if name.partition(".")[0] not in differ}
    assert len(own) > 4
    assert all(torch.equal(weights[name], copied[name]) for name in own)


def test_runs_are_used_again_and_others_are_refused(
    shapes: Path, recipe: str, tmp_path: Path, seen: Seen
) -> None:
    def train(*sets: str) -> dict[str, float]:
        return train_arm(str(shapes), recipe, sets, (), 0, "cpu", str(tmp_path / "run"))

    found = train()
    assert len(seen) == 6
    assert train() == found
    assert len(seen) == 6
    with pytest.raises(SlipformError, match=r"other settings: optimizer.lr = 0.01, now 0.1"):
        train("optimizer.lr=0.1")


def test_weights_of_one_arm_alone_are_not_copied(
    shapes: Path, recipe: str, tmp_path: Path, seen: Seen
) -> None:
    """A comparison of pretrained weights with none would compare them with themselves."""
    none = ("model.options.width=16",)
    train_arm(str(shapes), recipe, none, none, 1, "cpu", str(tmp_path / "pretrained"))
    given = (*none, f"model.weights={tmp_path / 'pretrained'}")
    train_arm(str(shapes), recipe, none, given, 3, "cpu", str(tmp_path / "run"))
    train_arm(str(shapes), recipe, none, none, 3, "cpu", str(tmp_path / "alone"))
    with_other, alone = seen[6][1], seen[12][1]
    assert all(torch.equal(with_other[name], alone[name]) for name in alone)


@pytest.mark.parametrize("after", [0, 3], ids=["before a checkpoint", "after a checkpoint"])
def test_an_unfinished_run_is_continued(
    after: int, shapes: Path, recipe: str, tmp_path: Path, seen: Seen,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Also one whose first weights were copied. It ends like an undisturbed one."""
    often = ("train.checkpoint_every_steps=3", "train.keep_checkpoints=9", "model.options.width=16")
    sets = (*often, "model.head=mlp")

    def train(name: str) -> dict[str, float]:
        return train_arm(str(shapes), recipe, sets, often, 0, "cpu", str(tmp_path / name))

    whole = train("whole")
    train("run")
    (tmp_path / "run/summary.json").unlink()
    for path in (tmp_path / "run/checkpoints").iterdir():
        if int(path.name.split("-")[1]) != after:
            path.unlink()
    found = train("run")
    assert found["test_loss"] == whole["test_loss"]
    assert len(seen) == 18 - after


def test_runs_on_other_data_are_refused(
    shapes: Path, shapes_raw: Path, recipe: str, tmp_path: Path, seen: Seen
) -> None:
    given = (recipe, (), (), 0, "cpu", str(tmp_path / "run"))
    train_arm(str(shapes), *given)
    with pytest.raises(SlipformError, match="a run on other data"):
        train_arm(str(shapes_raw), *given)


@pytest.fixture
def arms(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[tuple[str, int]]]:
    """Replace the training of both arms by numbers."""

    def replace(a: list[float], b: list[float]) -> list[tuple[str, int]]:
        asked: list[tuple[str, int]] = []

        def isolated(function: Any, *given: Any, seconds: float) -> dict[str, float]:
            assert function is ab_run.train_arm
            arm = Path(given[6]).parent.name
            asked.append((arm, given[4]))
            return {"test_accuracy": (a if arm == "a" else b)[given[4]]}

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
    assert row.settings["seeds_paired"] < 3
    assert row.settings["seeds_unpaired"] > 100
    assert row.figures["mean_difference"].low > 0
    assert "B has a higher test_accuracy than A: by 0.01" in printed


def test_it_ends_undecided_and_says_how_many_seeds_it_would_take(
    recipe: str, shapes: Path, tmp_path: Path, arms: Callable[..., list[tuple[str, int]]]
) -> None:
    arms([0.8, 0.81, 0.79], [0.81, 0.80, 0.795])
    code, printed = _ab(recipe, shapes, tmp_path, "--seeds", "3")
    assert code == 0, printed
    assert "not decided after 3 seeds: the mean difference is +0.0017" in printed
    assert "seeds in pairs" in printed


def test_equal_arms_are_refused(recipe: str, shapes: Path, tmp_path: Path) -> None:
    code, printed = _ab(recipe, shapes, tmp_path, "--set", "optimizer.lr=0.1")
    assert code == 1
    assert "both arms have the same settings" in printed
