"""How a run's steps are made: `LoaderSteps`, or on a GPU `TimedGraphSteps` many at a launch.

In: how many batches each of the next steps takes, and its learning rate. Out: their numbers, still
on the device. Both count images and time; the loop that calls them is the same.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Protocol

import torch

from slipform.pipelines.batch import Batch
from slipform.pipelines.device_batches import device_batches
from slipform.pipelines.errors import ConfigError
from slipform.pipelines.loader import Loader
from slipform.train.config.run_config import RunConfig
from slipform.train.config.sections import TrainConfig
from slipform.train.machine.distributed import Process
from slipform.train.run.counters import Counters
from slipform.train.step.graph import CudaGraphs, GraphSteps
from slipform.train.step.optim import set_learning_rate
from slipform.train.step.state import TrainState
from slipform.train.step.step import Launched, train_step

__all__ = [
    "STEPS_UNTIL_ESTIMATE",
    "LoaderSteps",
    "Steps",
    "TimedGraphSteps",
    "next_counts",
    "open_steps",
]

STEPS_UNTIL_ESTIMATE = 10  # of the time that the run takes


class Steps(Protocol):
    """What the loop calls."""

    def begin(self) -> None:
        """Before the first step of an epoch, or of the rest of one."""

    def run(self, counts: list[int], rates: list[float]) -> Launched:
        """Enqueue the next steps.

        Args:
            counts: Batches of each step.
            rates: Factor of the learning rate for each step.

        Returns:
            The numbers of the steps, on the device.
        """

    def end(self) -> None:
        """After the last step of an epoch and the reading of its losses."""

    def forget(self) -> None:
        """Momenta, functions or frozen layers are others than before."""


class LoaderSteps:
    """Steps on the batches of a Loader, one after the other.

    Args:
        state: Changed in place.
        loader: It gives the batches.
        counters: Changed in place.
        world_size: Number of processes.
    """

    def __init__(
        self, state: TrainState, loader: Loader, counters: Counters, world_size: int
    ) -> None:
        self._state, self._loader, self._counters = state, loader, counters
        self._world_size = world_size
        self._batches: Iterator[Batch] = iter(())

    def begin(self) -> None:
        """See `Steps`."""
        self._batches = self._counters.timed(self._loader, self._world_size)

    def run(self, counts: list[int], rates: list[float]) -> Launched:
        """See `Steps`."""
        losses, correct = [], []
        for count, rate in zip(counts, rates, strict=True):
            set_learning_rate(self._state.optimizers, rate)
            result = train_step(self._state, self._batches, count)
            losses.append(result.loss)
            correct.append(result.correct)
        return Launched(torch.stack(losses), torch.stack(correct), result.images)

    def end(self) -> None:
        """See `Steps`."""
        next(self._batches, None)  # counts the last batch

    def forget(self) -> None:
        """See `Steps`."""


class TimedGraphSteps:
    """Steps in CUDA graphs. Their time is that of the host, which waits where losses are read.

    Args:
        steps: Makes the steps.
        counters: Changed in place.
        batch_size: Images of a batch.
    """

    def __init__(self, steps: GraphSteps, counters: Counters, batch_size: int) -> None:
        self._steps, self._counters, self._batch_size = steps, counters, batch_size
        self._since = 0.0

    def begin(self) -> None:
        """See `Steps`."""
        self._since = time.perf_counter()
        self._steps.begin()

    def run(self, counts: list[int], rates: list[float]) -> Launched:
        """See `Steps`."""
        launched = self._steps.run(counts, rates)
        self._count(sum(counts) * self._batch_size)
        return launched

    def end(self) -> None:
        """See `Steps`."""
        self._count(0)

    def forget(self) -> None:
        """See `Steps`."""
        self._steps.forget()

    def _count(self, images: int) -> None:
        now = time.perf_counter()
        self._counters.add(now - self._since, images)
        self._since = now


def open_steps(
    config: RunConfig, state: TrainState, loader: Loader, counters: Counters, process: Process
) -> Steps:
    """The steps of a run.

    Args:
        config: train.steps_per_launch decides; a CPU has no launches, there the steps of one
            follow each other.
        state: Of the first step or restored.
        loader: Of the training split.
        counters: Of the run.
        process: This process.

    Raises:
        ConfigError: More than one step a launch is asked for, and this run cannot have it.
    """
    most = config.train.steps_per_launch
    if most == 1 or process.device.type != "cuda":
        return LoaderSteps(state, loader, counters, process.world_size)
    asked = f"train.steps_per_launch = {most}"
    if process.world_size > 1:
        raise ConfigError(f"{asked} is for one process; use 1 with more of them")
    batches = device_batches(loader.sequence)
    if batches is None:
        raise ConfigError(
            f"{asked} needs all pixels in the memory of the GPU, and all of them readable. Use"
            ' data.executor = "resident", or train.steps_per_launch = 1.'
        )
    graphs = CudaGraphs(process.device)
    return TimedGraphSteps(GraphSteps(state, batches, graphs, most), counters, batches.batch_size)


def next_counts(config: TrainConfig, step: int, left: int) -> list[int]:
    """The batches of each of the next steps: those of one launch, up to the next step after which
    the loop reads, writes or says something.

    Args:
        config: steps_per_launch, accumulate and what is due every n-th step.
        step: Steps that are done.
        left: Batches that are left of the epoch, at least 1.
    """
    most = config.steps_per_launch
    for every in (config.log_every_steps, config.checkpoint_every_steps):
        if every:
            most = min(most, every - step % every)
    for once in (1, STEPS_UNTIL_ESTIMATE):
        if step < once:
            most = min(most, once - step)
    counts: list[int] = []
    while left and len(counts) < most:
        counts.append(min(config.accumulate, left))  # the last step of an epoch may be smaller
        left -= counts[-1]
    return counts
