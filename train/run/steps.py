"""The steps of a run: `LoaderSteps`, or `TimedGraphSteps`: several steps in one launch on a GPU.

In: the number of batches and the learning rate of each of the next steps. Out: their losses and
counts, still on the device. Both count images and time. The loop can use either.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
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
from slipform.train.step.graph import CudaGraphs, Graphs, GraphSteps
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

STEPS_UNTIL_ESTIMATE = 10  # then the time of the run is estimated

# Type of a device -> its graphs. Tests add a model of graphs for CPUs.
_GRAPHS: dict[str, Callable[[torch.device], Graphs]] = {"cuda": CudaGraphs}


class Steps(Protocol):
    """The interface of the steps for the loop."""

    def begin(self) -> None:
        """Prepare for the first step of an epoch, or of the rest of an epoch."""

    def run(self, counts: list[int], rates: list[float]) -> Launched:
        """Run the next steps.

        Args:
            counts: The number of batches of each step.
            rates: The factor of the learning rate of each step.

        Returns:
            The losses and counts of the steps, on the device.
        """

    def end(self) -> None:
        """Finish an epoch. Call it after its losses have been read."""

    def forget(self, *, ready: bool = False) -> None:
        """Note that momenta, functions or frozen layers have been replaced.

        Args:
            ready: Whether the next step compiles nothing and makes no momenta.
        """


class LoaderSteps:
    """Steps on the batches of a Loader, one after another.

    Args:
        state: The state of the run; changed in place.
        loader: The loader of the training split.
        counters: The counters of the run; changed in place.
    """

    def __init__(self, state: TrainState, loader: Loader, counters: Counters) -> None:
        self._state, self._loader, self._counters = state, loader, counters
        samples = counters.samples
        self._observe = None if samples is None else samples.observations.keep
        self._batches: Iterator[Batch] = iter(())

    def begin(self) -> None:
        """See `Steps`."""
        self._batches = self._counters.timed(self._loader)

    def run(self, counts: list[int], rates: list[float]) -> Launched:
        """See `Steps`."""
        losses, correct = [], []
        for count, rate in zip(counts, rates, strict=True):
            set_learning_rate(self._state.optimizers, rate)
            result = train_step(self._state, self._batches, count, None, self._observe)
            losses.append(result.loss)
            correct.append(result.correct)
        return Launched(torch.stack(losses), torch.stack(correct), result.images)

    def end(self) -> None:
        """See `Steps`."""
        next(self._batches, None)  # counts the last batch

    def forget(self, *, ready: bool = False) -> None:
        """See `Steps`."""


class TimedGraphSteps:
    """Steps in CUDA graphs. The time of the host is measured: it waits when it reads losses.

    Args:
        steps: The steps.
        counters: The counters of the run; changed in place.
        batch_size: Images in a batch.
    """

    def __init__(self, steps: GraphSteps, counters: Counters, batch_size: int) -> None:
        self._steps, self._counters, self._batch_size = steps, counters, batch_size
        self._since = 0.0

    def begin(self) -> None:
        """See `Steps`."""
        self._steps.begin()
        self._since = self._now()

    def run(self, counts: list[int], rates: list[float]) -> Launched:
        """See `Steps`."""
        launched = self._steps.run(counts, rates)
        self._count(sum(counts) * self._batch_size)
        return launched

    def end(self) -> None:
        """See `Steps`."""
        self._count(0)

    def forget(self, *, ready: bool = False) -> None:
        """See `Steps`."""
        self._steps.forget(ready=ready)

    def _now(self) -> float:
        return time.perf_counter() - self._counters.paused_seconds

    def _count(self, images: int) -> None:
        now = self._now()
        self._counters.add(now - self._since, images)
        self._since = now


def open_steps(
    config: RunConfig, state: TrainState, loader: Loader, counters: Counters, process: Process
) -> Steps:
    """Make the steps of a run.

    Args:
        config: The configuration of the run. train.steps_per_launch selects the kind; it has no
            effect on a CPU.
        state: The state of the run, new or restored.
        loader: The loader of the training split.
        counters: The counters of the run.
        process: This process.

    Raises:
        ConfigError: train.steps_per_launch is above 1, and that is not possible in this run.
    """
    most, graphs = config.train.steps_per_launch, _GRAPHS.get(process.device.type)
    if most == 1 or graphs is None:
        return LoaderSteps(state, loader, counters)
    asked = f"train.steps_per_launch = {most}"
    if process.world_size > 1:
        raise ConfigError(f"{asked} is for one process; use 1 with more of them")
    if config.augment.own:
        raise ConfigError(
            f"{asked} draws on the GPU, and own augmentations ({', '.join(config.augment.own)})"
            " are drawn on the host. Use train.steps_per_launch = 1, or remove augment.own."
        )
    batches = device_batches(loader.sequence)
    if batches is None:
        raise ConfigError(
            f"{asked} needs all pixels in the memory of the GPU, and all of them readable; one"
            ' label for each image; and data.sampling = "all". Use data.executor = "resident", or'
            " train.steps_per_launch = 1."
        )
    observations = None if counters.samples is None else counters.samples.observations
    most = min(most, *(every for every in _stops(config.train) if every))
    steps = GraphSteps(state, batches, graphs(process.device), most, observations)
    return TimedGraphSteps(steps, counters, batches.batch_size)


def next_counts(config: TrainConfig, step: int, left: int) -> list[int]:
    """The number of batches of each step in the next launch.

    A launch ends with a step after which the loop reads losses, writes a checkpoint or prints a
    message.

    Args:
        config: Its steps_per_launch, accumulate, log_every_steps and checkpoint_every_steps are
            read.
        step: Steps done so far.
        left: Batches left in the epoch, at least 1.
    """
    most = config.steps_per_launch
    for every in _stops(config):
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


def _stops(config: TrainConfig) -> tuple[int, int]:
    """After how many steps the loop has work that ends a launch; 0: never."""
    return config.log_every_steps, config.checkpoint_every_steps
