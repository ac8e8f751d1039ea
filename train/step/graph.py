"""Whole optimizer steps in a CUDA graph: `GraphSteps`.

In: a state, batches that the device makes alone. Out: steps, of which the host launches many at
once. A step is everything: draw, render, forward, loss, backward, optimizers, averages. What
changes from step to step is in the device's memory: the position in the data, the learning rates,
the decay of the averages, and the losses, which are read later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from slipform.pipelines.batch import Batch
from slipform.pipelines.device_batches import DeviceBatches
from slipform.pipelines.errors import ConfigError
from slipform.pipelines.upload import upload
from slipform.train.step.state import TrainState
from slipform.train.step.step import Launched, ema_decay, train_step

__all__ = ["CudaGraphs", "GraphSteps", "Graphs", "check"]

_WARM_UP = 3  # eager steps before a capture: compilers, allocators and momenta come to rest


class Graphs(Protocol):
    """How work is recorded and replayed."""

    def eagerly(self, work: Callable[[], None]) -> None:
        """Enqueue work in the same way as it is recorded later, without recording it.

        Args:
            work: Enqueues the work.
        """

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record work without executing it.

        Args:
            work: Enqueues the work.

        Returns:
            A function that enqueues the recorded work.
        """


class CudaGraphs:
    """Graphs of a GPU, in one pool of memory: they never run side by side.

    Args:
        device: The GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._stream = device, torch.cuda.Stream(device)
        self._pool: Any = None

    def eagerly(self, work: Callable[[], None]) -> None:
        """See `Graphs`. The work is enqueued on the stream of the captures."""
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            work()
        current.wait_stream(self._stream)

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """See `Graphs`. It waits for the device."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
            work()
        self._pool = graph.pool()
        return graph.replay


class GraphSteps:
    """Steps of a state on the batches of a device.

    Args:
        state: Changed in place. Its learning rates become tensors.
        batches: Where the batches come from.
        graphs: How steps are recorded.
        most: Most steps of one launch.

    Raises:
        ConfigError: The run's precision or optimizer needs the host in each step.
    """

    def __init__(
        self, state: TrainState, batches: DeviceBatches, graphs: Graphs, most: int
    ) -> None:
        self._state, self._batches, self._graphs, self._most = state, batches, graphs, most
        check(state)
        device = self._device = state.functions.device
        self._rates: list[tuple[Tensor, float]] = []
        for optimizer in state.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = torch.zeros((), device=device)
                self._rates.append((group["lr"], group["initial_lr"]))
                if "capturable" in group:
                    group["capturable"] = device.type == "cuda"
        # Of each step of a launch: factor of the learning rate, decay of the averages.
        self._plan = torch.zeros((2, most), dtype=torch.float64, device=device)
        self._losses = torch.zeros(most, device=device)
        self._correct = torch.zeros(most, dtype=torch.int64, device=device)
        self._cursor = torch.zeros(1, dtype=torch.int64, device=device)
        self._source = self._endless()
        self._images: Tensor | None = None
        self._recorded: dict[tuple[int, int], tuple[Callable[[], None], list[Tensor | None]]] = {}
        self._warm = 0

    def forget(self) -> None:
        """Record anew: momenta, functions or frozen layers are others than before."""
        self._recorded.clear()
        self._warm = 0

    def begin(self) -> None:
        """Go to the position of the loader. Call it before each epoch."""
        self._batches.begin()

    def run(self, counts: list[int], rates: list[float]) -> Launched:
        """Enqueue steps; the host does not wait but for a capture.

        Args:
            counts: Batches of each step, at most as many steps as given to the constructor.
            rates: Factors of the learning rate, one for each step.

        Returns:
            The numbers of the steps, on the device. `images` are those of the last one.
        """
        state, steps = self._state, len(counts)
        plan = np.zeros((2, self._most))
        plan[0, :steps] = rates
        plan[1, :steps] = [ema_decay(state, state.step + 1 + i) for i in range(steps)]
        self._plan.copy_(upload(plan, self._device), non_blocking=True)
        self._cursor.zero_()
        done = 0
        while done < steps:
            done += self._launch(counts[done:])
        self._batches.count(sum(counts))
        assert self._images is not None
        return Launched(self._losses[:steps].clone(), self._correct[:steps].clone(), self._images)

    def _launch(self, counts: list[int]) -> int:
        """Enqueue the next step or steps. Returns how many."""
        state, count = self._state, counts[0]
        if self._warm < _WARM_UP:
            self._warm += 1
            self._graphs.eagerly(partial(self._step, count))
            return 1
        steps = self._most if counts == [count] * self._most else 1
        before = state.step
        if (count, steps) not in self._recorded:
            replay = self._graphs.capture(partial(self._steps, count, steps))
            gradients = [parameter.grad for parameter in state.model.parameters()]
            self._recorded[count, steps] = replay, gradients
        replay, gradients = self._recorded[count, steps]
        replay()
        state.step = before + steps  # a capture counts, too
        # Each graph has gradients of its own.
        for parameter, gradient in zip(state.model.parameters(), gradients, strict=True):
            parameter.grad = gradient
        return steps

    def _steps(self, count: int, steps: int) -> None:
        for _ in range(steps):
            self._step(count)

    def _step(self, count: int) -> None:
        """One step as it is recorded: nothing in it may depend on a number of the host."""
        now = self._plan.index_select(1, self._cursor)
        for rate, initial in self._rates:
            rate.copy_(now[0, 0] * initial)
        result = train_step(self._state, self._source, count, decay=now[1, 0].float())
        self._losses.index_copy_(0, self._cursor, result.loss.reshape(1))
        self._correct.index_copy_(0, self._cursor, result.correct.reshape(1))
        self._images = result.images
        self._cursor.add_(1)

    def _endless(self) -> Iterator[Batch]:
        while True:
            yield self._batches.make()


def check(state: TrainState) -> None:
    """Check that no part of a step needs the host.

    Args:
        state: Scaler and optimizers are looked at.

    Raises:
        ConfigError: One of them does.
    """
    if state.scaler.is_enabled():
        raise ConfigError(
            'train.steps_per_launch above 1 cannot scale losses: use train.precision = "bf16" or'
            ' "fp32" in place of "fp16", or train.steps_per_launch = 1'
        )
    from slipform.train.step.muon import ConvMuon

    allowed = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, ConvMuon)
    for optimizer in state.optimizers:
        if not isinstance(optimizer, allowed):
            name = type(optimizer).__name__
            raise ConfigError(
                f"train.steps_per_launch above 1 is for the optimizers sgd, adam, adamw and muon;"
                f" {name} reads its learning rate on the host. Use train.steps_per_launch = 1."
            )
