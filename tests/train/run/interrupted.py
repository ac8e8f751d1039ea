"""Runs that end after a step, and the comparison with a run that was not stopped, bit for bit.

In: a step, run folders. Out: an exception or a signal after that step; a failed test where two runs
differ.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from slipform.train.records import read_metrics
from slipform.train.run import checkpoint, steps
from slipform.train.run.best import load_best

__all__ = ["Killed", "assert_same", "at_step", "kill", "terminate"]


class Killed(BaseException):
    """Simulates kill -9: no handler of Slipform catches it."""


def at_step(monkeypatch: pytest.MonkeyPatch, step: int, what: Callable[[], Any]) -> None:
    """Do `what` once, directly after that step."""
    original = steps.train_step  # type: ignore[attr-defined]

    def wrapped(state: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(state, *args, **kwargs)
        if state.step == step:
            monkeypatch.setattr(steps, "train_step", original)
            what()
        return result

    monkeypatch.setattr(steps, "train_step", wrapped)


def kill() -> None:
    raise Killed


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def _records(run: Path) -> tuple[list[Any], list[Any], dict[str, Tensor], Any]:
    """The losses and rates of all steps, the validation of all epochs, the best weights, and the
    state in the last checkpoint."""
    steps = [(x["step"], x["epoch"], x["loss"], x["lr"]) for x in read_metrics(run, "step")]
    epochs = [
        (
            x["step"],
            x["epoch"],
            x["train_loss"],
            x["train_accuracy"],
            x["val_loss"],
            x["val_accuracy"],
        )
        for x in read_metrics(run, "epoch")
    ]
    saved = checkpoint.load_newest(run, pytest.fail)
    assert saved is not None
    return steps, epochs, load_best(run), saved


def assert_same(a: Path, b: Path) -> None:
    steps, epochs, best, saved = _records(a)
    steps_b, epochs_b, best_b, saved_b = _records(b)
    assert steps == steps_b
    assert epochs == epochs_b
    assert all(torch.equal(best[name], best_b[name]) for name in best)
    for part in ("model", "ema"):
        assert (saved["state"][part] is None) == (saved_b["state"][part] is None)
        for name, tensor in (saved["state"][part] or {}).items():
            assert torch.equal(tensor, saved_b["state"][part][name]), name
    assert torch.equal(saved["random"][0]["cpu"], saved_b["random"][0]["cpu"])
    assert saved["loader"] == saved_b["loader"]
    assert saved["state"]["best"] == saved_b["state"]["best"]
