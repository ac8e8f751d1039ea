"""Losses that are read late from a GPU, and TensorBoard's file, which a thread writes."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from slipform.pipelines.errors import SlipformError
from slipform.train.run import losses, record
from slipform.train.run.counters import Counters
from slipform.train.run.record import Recorder


class Run:
    """The parts of a run on a GPU that losses need. `events` has the calls in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, device: str) -> None:
        self.events: list[str] = []
        self.counters, self.state = Counters(), SimpleNamespace(step=0, epoch=2)
        self.process = SimpleNamespace(
            device=torch.device(device), world_size=1, all_reduce=lambda tensor: tensor
        )
        self.recorder = SimpleNamespace(
            steps=lambda first, epoch, losses, rates: self.events.append(
                f"epoch {epoch} step {first}: {losses}"
            )
        )
        events = self.events

        class Download:
            def __init__(self, values: Tensor) -> None:
                self._values = values
                events.append("sent")

            def result(self) -> Tensor:
                events.append("waited")
                return self._values

        monkeypatch.setattr(losses, "Download", Download)
        monkeypatch.setattr(losses, "diverged", lambda run, text: SlipformError(text))

    def steps(self, *values: float) -> None:
        """Steps with these losses."""
        self.state.step += len(values)
        pending = self.counters.pending
        pending.losses.append(torch.tensor(values))
        pending.correct.append(torch.ones(len(values), dtype=torch.int64))
        pending.images += [8] * len(values)
        pending.rates += [0.1] * len(values)


def test_the_previous_numbers_are_read_on_a_gpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run: Any = Run(monkeypatch, "cuda")
    run.steps(1.0, 2.0)
    run.steps(3.0)
    losses.send(run)
    assert run.events == ["sent"]  # nobody waits
    run.steps(4.0)
    losses.send(run)
    first = ["sent", "waited", "epoch 3 step 1: [1.0, 2.0, 3.0]"]
    assert run.events == [*first, "sent"]
    losses.read(run)  # the end of an epoch, or a checkpoint
    assert run.events == [*first, "sent", "waited", "epoch 3 step 4: [4.0]"]
    assert run.counters.sent is None
    assert run.counters.epoch.counted == 32
    assert run.counters.epoch.mean_loss == 2.5
    assert run.counters.epoch.accuracy == 4 / 32
    losses.read(run)
    assert len(run.events) == 6


def test_the_present_numbers_are_read_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    run: Any = Run(monkeypatch, "cpu")
    run.steps(1.0)
    losses.send(run)
    assert run.events == ["sent", "waited", "epoch 3 step 1: [1.0]"]


def test_the_step_that_diverged_is_named_although_it_is_read_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run: Any = Run(monkeypatch, "cuda")
    run.steps(1.0, float("nan"), 3.0)
    losses.send(run)
    run.steps(4.0)
    with pytest.raises(SlipformError, match="the loss of step 2 is nan"):
        losses.send(run)
    assert run.events == ["sent", "waited", "epoch 3 step 1: [1.0]"]


def test_tensorboard_is_written_by_a_thread_with_the_values_of_the_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, Any]] = []
    threads: set[int] = set()

    class Board:
        def __init__(self, *_: Any) -> None:
            self.go = go

        def __getattr__(self, name: str) -> Any:
            def call(*args: Any) -> None:
                go.wait()
                threads.add(threading.get_ident())
                calls.append((name, args))

            return call

    go = threading.Event()
    monkeypatch.setattr(record, "open_sinks", lambda *_: [Board()])
    recorder = Recorder(tmp_path, writes=True, quiet=True, step=0, epoch=0)
    model = nn.Linear(3, 2)
    before = model.weight.detach().clone()
    model.weight.grad = torch.full((2, 3), float("inf"))
    recorder.images(torch.zeros(2, 3, 8, 8))
    recorder.histograms(model, 7)
    recorder.steps(1, 1, [0.5, 0.25], [0.1, 0.1])
    with torch.no_grad():
        model.weight.zero_()  # the next step
    assert not calls  # this thread did not wait for the file
    go.set()
    recorder.epoch(7, {"epoch": 1, "val_accuracy": 0.5, "val_top5": None})
    recorder.close()
    assert threads
    assert threading.get_ident() not in threads
    names = [name for name, _ in calls]
    assert names == ["image", *["histogram"] * 2, *["numbers"] * 2, "flush", "close"]
    rows = [arguments[0] for name, arguments in calls if name == "numbers"]
    assert rows == [
        [
            (1, {"train/loss": 0.5, "train/learning_rate": 0.1}),
            (2, {"train/loss": 0.25, "train/learning_rate": 0.1}),
        ],
        [(7, {"epoch/val_accuracy": 0.5})],  # without the number that is not there
    ]
    tag, values, step = calls[1][1]
    assert (tag, step) == ("weights/weight", 7)
    np.testing.assert_array_equal(np.sort(values), np.sort(before.numpy().ravel()))
    assert calls[2][1][0] == "weights/bias"  # the gradients of the weight are infinite
