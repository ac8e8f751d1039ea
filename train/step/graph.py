"""Whole training steps in a CUDA graph: `GraphSteps`.

In: a state, and batches that the device makes without the host. Out: steps; the host launches
several at once. A step includes draw, render, forward, loss, backward, optimizers and averages.
Everything that changes between steps is in the memory of the device: the position in the data, the
learning rates, the decay of the averages, and the losses, which are read later.
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
from slipform.train.step.observe import Observations
from slipform.train.step.state import TrainState
from slipform.train.step.step import Launched, ema_decay, train_step

__all__ = ["CudaGraphs", "GraphSteps", "Graphs", "check"]

_WARM_UP = 3  # eager steps before a capture, for compilation, memory and momenta


class Graphs(Protocol):
    """Recording and replaying work."""

    def eagerly(self, work: Callable[[], None]) -> None:
        """Do work under the conditions of a recording, without recording it.

        Args:
            work: A function that launches work on the device.
        """

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record the work that a function launches, without doing it.

        Args:
            work: A function that launches work on the device.

        Returns:
            A function that launches the recorded work.
        """


class CudaGraphs:
    """CUDA graphs of a GPU. They share one memory pool: only one of them runs at a time.

    Args:
        device: The GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._stream = device, torch.cuda.Stream(device)
        self._pool: Any = None

    def eagerly(self, work: Callable[[], None]) -> None:
        """See `Graphs`. The work runs on the stream of the captures."""
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            work()
        current.wait_stream(self._stream)

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """See `Graphs`. The host waits for the device."""
        graph = torch.cuda.CUDAGraph()
        # Threads of the recorder and the loaders may call CUDA in the meantime.
        mode = "thread_local"
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode=mode):
            work()
        self._pool = graph.pool()
        return graph.replay


class GraphSteps:
    """Steps of a state on batches that the device makes.

    Args:
        state: Changed in place. Its learning rates become tensors.
        batches: The batches.
        graphs: Records and replays the steps.
        most: The maximum number of steps in a launch.
        observations: Notes the logits of all batches; None: nothing does.

    Raises:
        ConfigError: The precision or the optimizer of the run needs the host in each step.
    """

    def __init__(
        self,
        state: TrainState,
        batches: DeviceBatches,
        graphs: Graphs,
        most: int,
        observations: Observations | None = None,
    ) -> None:
        self._state, self._batches, self._graphs, self._most = state, batches, graphs, most
        # Logits and batches are overwritten by the next step: they are encoded in their own.
        self._observe = None if observations is None else observations.add
        check(state)
        device = self._device = state.functions.device
        self._rates: list[tuple[Tensor, float]] = []
        for optimizer in state.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = torch.zeros((), device=device)
                self._rates.append((group["lr"], group["initial_lr"]))
                if "capturable" in group:
                    group["capturable"] = device.type == "cuda"
        # For each step of a launch: the factor of the learning rate, the decay of the averages.
        self._plan = torch.zeros((2, most), dtype=torch.float64, device=device)
        self._losses = torch.zeros(most, device=device)
        self._correct = torch.zeros(most, dtype=torch.int64, device=device)
        self._cursor = torch.zeros(1, dtype=torch.int64, device=device)
        self._source = self._endless()
        self._images: Tensor | None = None
        self._recorded: dict[tuple[int, int], tuple[Callable[[], None], list[Tensor | None]]] = {}
        self._again: list[tuple[int, int]] = []
        self._warm = 0

    def forget(self, *, ready: bool = False) -> None:
        """Discard the recorded graphs, after momenta, functions or frozen layers were replaced.

        Args:
            ready: Whether steps can be recorded without an eager step before: all is compiled, and
                all momenta are there. `begin` then records the same graphs.
        """
        self._again = list(self._recorded) if ready else []
        self._recorded.clear()
        if not self._again:
            self._warm = 0

    def begin(self) -> None:
        """Continue at the position of the loader. Call it before each epoch."""
        self._batches.begin()
        self._cursor.zero_()
        for count, steps in self._again:
            self._record(count, steps)
        self._again = []

    def run(self, counts: list[int], rates: list[float]) -> Launched:
        """Launch steps. The host waits only for a capture.

        Args:
            counts: The number of batches of each step; at most `most` steps.
            rates: The factor of the learning rate of each step.

        Returns:
            The results of the steps, on the device.
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
        """Launch the next step or steps, and return their number."""
        state, count = self._state, counts[0]
        if self._warm < _WARM_UP:
            self._warm += 1
            self._graphs.eagerly(partial(self._step, count))
            return 1
        steps = self._most if counts == [count] * self._most else 1
        if (count, steps) not in self._recorded:
            self._record(count, steps)
        replay, gradients = self._recorded[count, steps]
        replay()
        state.step += steps
        # Each graph has its own gradients.
        for parameter, gradient in zip(state.model.parameters(), gradients, strict=True):
            parameter.grad = gradient
        return steps

    def _record(self, count: int, steps: int) -> None:
        state, before = self._state, self._state.step
        replay = self._graphs.capture(partial(self._steps, count, steps))
        state.step = before  # nothing was done
        gradients = [parameter.grad for parameter in state.model.parameters()]
        self._recorded[count, steps] = replay, gradients

    def _steps(self, count: int, steps: int) -> None:
        for _ in range(steps):
            self._step(count)

    def _step(self, count: int) -> None:
        """The step that is recorded. It must not depend on numbers of the host."""
        now = self._plan.index_select(1, self._cursor)
        for rate, initial in self._rates:
            rate.copy_(now[0, 0] * initial)
        decay = now[1, 0].float()
        result = train_step(self._state, self._source, count, decay, self._observe)
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
        state: Its scaler and optimizers are checked.

    Raises:
        ConfigError: The scaler or an optimizer needs the host in each step.
    """
    if state.scaler.is_enabled():
        raise ConfigError(
            'train.steps_per_launch above 1 cannot scale losses: use train.precision = "bf16" or'
            ' "fp32" instead of "fp16", or train.steps_per_launch = 1'
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
