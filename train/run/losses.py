"""Losses from the device to the records: `send` enqueues the copy, `receive` reads it later.

In: the pending numbers of a run. Out: lines in metrics.jsonl, sums of the epoch. On a GPU the
numbers are read when the next ones are sent, so that the host does not wait for the device between
two epochs or checkpoints.
"""

from __future__ import annotations

import math

import torch

from slipform.train.run.counters import PendingMetrics, SentMetrics
from slipform.train.run.divergence import diverged
from slipform.train.run.open import Run
from slipform.train.step.download import Download

__all__ = ["read", "receive", "send"]


def send(run: Run) -> None:
    """Receive the numbers that were sent before, then enqueue the copy of the pending ones.

    On a CPU the pending numbers are also received at once.

    Args:
        run: Its counters are changed.

    Raises:
        Diverged: A loss that was received is not finite.
    """
    receive(run)
    state, pending, world_size = run.state, run.counters.pending, run.process.world_size
    if not pending.losses:
        return
    numbers = torch.cat([*pending.losses, *(correct.float() for correct in pending.correct)])
    numbers = run.process.all_reduce(numbers) / world_size
    first_step = state.step - len(pending.rates) + 1
    run.counters.sent = SentMetrics(
        Download(numbers), first_step, state.epoch + 1, pending.images, pending.rates
    )
    run.counters.pending = PendingMetrics()
    if run.process.device.type != "cuda":
        receive(run)


def receive(run: Run) -> None:
    """Read the numbers that were sent, and record them. Waits for the copy.

    Args:
        run: Its counters are changed.

    Raises:
        Diverged: A loss is not finite.
    """
    sent = run.counters.sent
    if sent is None:
        return
    run.counters.sent = None
    losses, correct = sent.numbers.result().reshape(2, -1).tolist()
    finite = next((i for i, loss in enumerate(losses) if not math.isfinite(loss)), len(losses))
    run.recorder.steps(sent.first_step, sent.epoch, losses[:finite], sent.rates[:finite])
    if finite < len(losses):
        raise diverged(run, f"the loss of step {sent.first_step + finite} is {losses[finite]}")
    world_size = run.process.world_size
    for loss, right, images in zip(losses, correct, sent.images, strict=True):
        run.counters.epoch.add(loss, right * world_size, images)


def read(run: Run) -> None:
    """Send and receive everything. Waits for the device.

    Args:
        run: Its counters are changed.

    Raises:
        Diverged: A loss is not finite.
    """
    send(run)
    receive(run)
