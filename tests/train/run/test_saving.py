"""Checkpoints that a thread writes, as on a GPU; and the time that does not count as training."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from slipform.pipelines.errors import Interrupted, SlipformError
from slipform.pipelines.workers import Gate
from slipform.train.config.run_config import RunConfig
from slipform.train.records import read_metrics
from slipform.train.run import checkpoint, counters, steps
from slipform.train.run import open as opening
from slipform.train.run.loop import fit
from slipform.train.run.record import Recorder
from slipform.train.run.saving import Checkpoints
from tests.train.run.interrupted import assert_same, at_step, terminate

Small = Callable[..., RunConfig]


def test_a_thread_writes_the_values_of_the_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, save = Gate(), checkpoint.save

    def slow(*arguments: Any, **options: Any) -> Path:
        go.wait()
        return save(*arguments, **options)

    monkeypatch.setattr(checkpoint, "save", slow)
    saved = Checkpoints(tmp_path, 2, ahead=True)
    weights = torch.arange(24.0).reshape(1, 2, 3, 4).to(memory_format=torch.channels_last)
    before = weights.clone()
    saved.save(1, {"state": [{"w": weights}], "pair": (1, "two"), "none": None})
    weights.zero_()  # the next step
    assert not checkpoint.checkpoints(tmp_path)
    go.open()
    saved.save(2, {"state": [{"w": weights}]})  # waits for the first one
    assert [path.name[:13] for path in checkpoint.checkpoints(tmp_path)][-1] == "step-00000001"
    saved.wait()
    newest, oldest = checkpoint.load_all(tmp_path, pytest.fail)
    assert torch.equal(oldest["state"][0]["w"], before)
    assert oldest["state"][0]["w"].is_contiguous(memory_format=torch.channels_last)
    assert (oldest["pair"], oldest["none"]) == ((1, "two"), None)
    assert not newest["state"][0]["w"].any()
    saved.close()
    saved.close()


def test_an_error_of_the_thread_is_raised_by_the_next_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> Path:
        raise SlipformError("the disk is full")

    monkeypatch.setattr(checkpoint, "save", full)
    saved = Checkpoints(tmp_path, 2, ahead=True)
    for call in (saved.wait, partial(saved.save, 2, {})):
        saved.save(1, {})
        with pytest.raises(SlipformError, match="the disk is full"):
            call()
    saved.save(3, {})
    saved.close()  # another error may be on its way


@pytest.mark.usefixtures("no_collections")
def test_an_error_that_nobody_asks_for_keeps_no_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is a copy of all weights."""
    found: list[weakref.ref[Tensor]] = []

    def write(content: dict[str, Any]) -> None:
        found.append(weakref.ref(content["weights"]))
        raise OSError(28, "No space left on device")

    def full(run: Path, step: int, content: dict[str, Any], **_: Any) -> Path:
        try:
            write(content)
        except OSError as error:
            raise SlipformError("the disk is full") from error
        raise AssertionError

    monkeypatch.setattr(checkpoint, "save", full)
    saved = Checkpoints(tmp_path, 2, ahead=True)
    saved.save(1, {"weights": torch.zeros(3)})
    assert saved._writer
    saved._writer.settle()
    assert [one() for one in found] == [None]
    saved.close()
    left = weakref.ref(saved)
    del saved
    assert left() is None


@pytest.mark.usefixtures("no_figures")
def test_a_run_whose_checkpoints_a_thread_writes(
    small: Small, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small("train.checkpoint_every_steps=2", "train.ema=0.9")
    fit(config, shapes, tmp_path / "plain", quiet=True)

    def ahead(*arguments: Any, **_: Any) -> Checkpoints:
        return Checkpoints(*arguments, ahead=True)

    monkeypatch.setattr(opening, "Checkpoints", ahead)
    run = tmp_path / "thread"
    at_step(monkeypatch, 9, terminate)
    with pytest.raises(Interrupted):
        fit(config, shapes, run, quiet=True)
    assert checkpoint.step_of(checkpoint.checkpoints(run)[0]) == 9
    fit(config, shapes, run, resume=True, quiet=True)
    assert_same(tmp_path / "plain", run)


@pytest.mark.usefixtures("no_figures")
def test_checkpoints_and_histograms_are_no_time_of_training(
    small: Small, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock of the test: a step takes a second, what is written a thousand."""
    now = 0.0

    def takes(seconds: float, call: Any) -> Any:
        def slow(*arguments: Any, **options: Any) -> Any:
            nonlocal now
            result = call(*arguments, **options)
            now += seconds
            return result

        return slow

    monkeypatch.setattr(counters, "time", SimpleNamespace(perf_counter=lambda: now))
    monkeypatch.setattr(steps, "train_step", takes(1.0, steps.train_step))  # type: ignore[attr-defined]
    monkeypatch.setattr(checkpoint, "save", takes(1000.0, checkpoint.save))
    for name in ("histograms", "images"):
        monkeypatch.setattr(Recorder, name, takes(1000.0, getattr(Recorder, name)))
    fit(small("train.checkpoint_every_steps=2"), shapes, tmp_path / "run", quiet=True)
    assert [x["train_seconds"] for x in read_metrics(tmp_path / "run", "epoch")] == [6.0, 6.0]
