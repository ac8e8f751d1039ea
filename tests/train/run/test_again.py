"""A command that runs again: --auto-resume, checkpoints by the clock, processes that agree."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

from slipform.pipelines.errors import ConfigError, SlipformError
from slipform.train.cli import train
from slipform.train.config.run_config import RunConfig
from slipform.train.machine.distributed import Process
from slipform.train.run import checkpoint, loop, steps
from slipform.train.run import open as opening
from slipform.train.run.loop import fit
from slipform.train.run.resume import check_same_start
from tests.train.run.interrupted import Killed, assert_same, at_step, kill, terminate

pytestmark = pytest.mark.usefixtures("no_figures")
Small = Callable[..., RunConfig]
RECIPE = """
description = "small"
[augment]
image_size = 32
resize = 40
[model]
name = "tiny"
[train]
epochs = 2
batch_size = 40
precision = "fp32"
log_every_steps = 4
checkpoint_every_steps = 2
[data]
threads = 1
executor = "auto"
"""


@pytest.fixture
def again(shapes: Path, tmp_path: Path) -> Callable[..., Result]:
    """again("run"): one command, as a scheduler starts it each time."""
    recipe = tmp_path / "small.toml"
    recipe.write_text(RECIPE)

    def command(name: str, *more: str) -> Result:
        words = [str(shapes), "--recipe", str(recipe), "--device", "cpu", "--quiet", *more]
        return CliRunner().invoke(train, [*words, "--out", str(tmp_path / name), "--auto-resume"])

    return command


def test_the_same_command_begins_continues_and_ends(
    again: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert again("whole").exit_code == 0
    at_step(monkeypatch, 1, kill)  # before the first checkpoint
    with pytest.raises(Killed):
        again("run")
    at_step(monkeypatch, 3, terminate)
    assert again("run").exit_code == 130
    at_step(monkeypatch, 9, kill)
    with pytest.raises(Killed):
        again("run")
    done = again("run")
    assert (done.exit_code, "test accuracy" in done.output) == (0, True), done.output
    assert_same(tmp_path / "whole", tmp_path / "run")
    weights = (tmp_path / "run" / "best.safetensors").read_bytes()
    assert again("run").exit_code == 0  # nothing is left to do
    assert (tmp_path / "run" / "best.safetensors").read_bytes() == weights


def test_a_command_with_other_settings_is_another_run(
    again: Callable[..., Result], tmp_path: Path
) -> None:
    assert again("run", "--set", "train.epochs=1").exit_code == 0
    before = (tmp_path / "run" / "summary.json").read_bytes()
    result = again("run")
    assert result.exit_code == 1
    assert "train.epochs = 1, not 2" in result.output
    assert f"--resume {tmp_path / 'run'} --set" in result.output
    assert (tmp_path / "run" / "summary.json").read_bytes() == before


def test_a_run_that_torchrun_would_begin_again_is_refused(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would begin a new run, or find its own folder and fail."""
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    for words in ((), ("--out", str(tmp_path / "run")), ("--overwrite",)):
        result = CliRunner().invoke(train, [str(shapes), *words])
        assert (result.exit_code, "--auto-resume" in result.output) == (2, True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("minutes", "saved"),
    [
        pytest.param(0.0, [6, 12], marks=pytest.mark.slow),
        pytest.param(1.0, [3, 6, 9, 12], marks=pytest.mark.slow),
        (2.0, [5, 6, 11, 12]),
    ],
)
def test_checkpoints_by_the_clock(
    minutes: float, saved: list[int], shapes: Path, small: Small, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Each step takes 25 seconds by a clock of the test. Each of 2 epochs has 6 steps."""
    now, found = 0.0, []
    original, save = steps.train_step, checkpoint.save  # type: ignore[attr-defined]

    def slow_step(*arguments: Any, **options: Any) -> Any:
        nonlocal now
        now += 25
        return original(*arguments, **options)

    def noted(run: Path, step: int, *more: Any, **options: Any) -> Path:
        found.append(step)
        return save(run, step, *more, **options)

    clock = SimpleNamespace(monotonic=lambda: now)
    monkeypatch.setattr(steps, "train_step", slow_step)
    monkeypatch.setattr(checkpoint, "save", noted)
    monkeypatch.setattr(loop, "time", clock)
    monkeypatch.setattr(opening, "time", clock)
    config = small("train.epochs=2", f"train.checkpoint_every_minutes={minutes}")
    fit(config, shapes, tmp_path / "run", quiet=True)
    assert found == saved


class _Rank(Process):
    """A process whose group has given answers."""

    def all_gather(self, value: Any) -> list[Any]:
        return [value, *map(str, os.environ["OTHERS"].split(","))]


def test_processes_must_see_the_same_run(
    small: Small, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    fit(small("train.epochs=1"), shapes, run, quiet=True)
    (newest,) = checkpoint.checkpoints(run)
    process = _Rank(torch.device("cpu"), 0, 3)
    for others, resume, words in (
        (f"{newest.name},{newest.name}", True, ""),
        ("no run,no run", False, ""),
        (
            f"{newest.name},no checkpoint",
            True,
            f"finds {newest.name} in .*process 2 finds no check",
        ),
        (f"no run,{newest.name}", True, "process 1 finds no run"),
        (
            f"{newest.name},no run",
            False,
            f"process 0 finds no run in .*process 1 finds {newest.name}",
        ),
    ):
        monkeypatch.setenv("OTHERS", others)
        if words:
            with pytest.raises(SlipformError, match=words):
                check_same_start(run, process, resume=resume)
        else:
            check_same_start(run, process, resume=resume)


def test_a_batch_that_cannot_be_divided_is_refused(
    small: Small, shapes: Path, tmp_path: Path
) -> None:
    config = small("train.split_batches=true", "train.batch_size=241")
    with pytest.raises(ConfigError, match=r"train\.batch_size to 240 or less"):
        fit(config, shapes, tmp_path / "run", quiet=True)
