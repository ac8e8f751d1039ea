"""Training under one condition: the step alone, the loader alone, both, and a torch DataLoader.

In: a `Point`. Out: an `Outcome`. The step is `train_step` on a state of `build_state`, like that of
the command `train`. "The step alone" uses one batch that is on the device already. The torch
DataLoader feeds the same step. The four are contestants of one race in this process: they are
measured in turns.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipform.bench.race.measure import estimate
from slipform.bench.race.race import Effort, Rounds, cpu_seconds, race, synchronize, timed
from slipform.bench.race.training_point import Point, run_config, work_of
from slipform.bench.result.result import Estimate, Settings
from slipform.bench.work import Work
from slipform.pipelines.machine import peak_memory, reset_peak

if TYPE_CHECKING:
    from slipform.pipelines.batch import Batch

__all__ = [
    "Outcome",
    "Prepared",
    "figures_of",
    "measure_point",
    "prepared",
]

_RATES = ("step", "loader", "end_to_end", "torch")


@dataclass(frozen=True)
class Outcome:
    """The result of a point.

    Attributes:
        settings: The settings that "auto" stands for.
        figures: Quantity -> its estimate.
    """

    settings: Settings = field(default_factory=dict)
    figures: dict[str, Estimate] = field(default_factory=dict)


def measure_point(point: Point, effort: Effort) -> Outcome:
    """Measure one point in this process.

    Args:
        point: The condition.
        effort: Rounds, span and warm-up.

    Raises:
        torch.OutOfMemoryError: The memory of the device is too small.
    """
    with prepared(point, effort) as ready:
        return ready.measure()


@dataclass(frozen=True)
class Prepared:
    """A point whose loader and step are open and compiled.

    Attributes:
        contestants: Name -> a function that measures it once.
        rounds: The number of rounds.
        settings: The settings that "auto" stands for.
        once: Quantity -> what was measured while it was prepared.
    """

    contestants: dict[str, Callable[[], dict[str, float]]]
    rounds: int
    settings: Settings
    once: dict[str, float]

    def measure(self) -> Outcome:
        """Measure it. Nothing else may compute in the meantime."""
        rounds = race(self.contestants, self.rounds)
        once = {name: estimate([value]) for name, value in self.once.items()}
        return Outcome(self.settings, figures_of(rounds) | once)


@contextmanager
def prepared(point: Point, effort: Effort) -> Iterator[Prepared]:
    """Open the loaders of a point, build and compile its step, and take some steps.

    Args:
        point: The condition.
        effort: Rounds, span and warm-up.

    Raises:
        torch.OutOfMemoryError: The memory of the device is too small.
    """
    import torch

    from slipform.pipelines.loader import Loader
    from slipform.train.machine.device import pick_precision, set_up
    from slipform.train.machine.distributed import join
    from slipform.train.step.build import build_state
    from slipform.train.step.step import set_train_mode, train_step

    with ExitStack() as stack:
        process = stack.enter_context(join(point.device))
        precision = pick_precision(point.precision, process.device)  # type: ignore[arg-type]
        dtype, device = str(precision).removeprefix("torch."), str(process.device)
        work = work_of(point, device, dtype)
        config = run_config(point, work)
        set_up(config.train, process.device)
        # Open it first: its workers are forked, and this process must have no threads then.
        theirs = _open_torch(stack, work) if point.peer else None

        began = time.perf_counter()
        loader = stack.enter_context(
            Loader(
                Path(point.data),
                augment=work.augment,
                batch_size=point.batch_size,
                executor=point.executor,
                device=process.device,
                dtype=precision,
                reuse_buffers=True,
            )
        )
        fixed = _copy(next(iter(loader)))
        synchronize(device)
        first_batch_seconds = time.perf_counter() - began

        reset_peak(device)
        classes = loader.manifest.num_classes
        state = build_state(
            config, num_classes=classes, process=process, first_images=lambda: fixed.images
        )
        set_train_mode(state)

        def step(batch: Batch) -> None:
            train_step(state, iter((batch,)))

        step_seconds = [_seconds(lambda: step(fixed), device) for _ in range(3)]
        ours = _endless(loader)
        # More than are made ahead: small batches come several at a time.
        queue = 4 * loader.sequence.ahead.per_request
        longer = replace(effort, min_batches=max(8, queue, effort.min_batches))
        contestants = {
            "step": lambda: timed(repeat(fixed), device, effort, step),
            "loader": lambda: timed(ours, device, longer, lambda batch: None),
            "end_to_end": lambda: timed(ours, device, longer if queue > 4 else effort, step),
        }
        timed(ours, device, replace(effort, seconds=0.0), step)
        memory = peak_memory(device, alone=True)  # before the torch DataLoader's first turn
        if theirs is not None:
            contestants["torch"] = lambda: timed(theirs, device, effort, step)

        settings: Settings = {
            "executor": loader.executor_name,
            "precision": dtype,
            "channels_last": config.train.channels_last is not False,
            "compiled": state.functions.compiled,
            "parameters": sum(parameter.numel() for parameter in state.model.parameters()),
            "torch_threads": torch.get_num_threads(),
        }
        once = memory | {"first_batch_seconds": first_batch_seconds}
        if state.functions.compiled:
            once["compile_seconds"] = step_seconds[0] - statistics.median(step_seconds[1:])
        yield Prepared(contestants, effort.rounds, settings, once)


def figures_of(rounds: Rounds) -> dict[str, Estimate]:
    """Compute the figures of a row: rates, ratios between them, shares of waiting.

    Args:
        rounds: The measurements of "step", "loader", "end_to_end" and, optionally, "torch".

    Returns:
        Quantity -> its estimate.
    """
    figures = {
        f"{name}_images_per_second": rounds.estimates(name)["images_per_second"]
        for name in _RATES
        if name in rounds.values
    }
    figures["end_to_end_ratio"] = rounds.ratio("end_to_end", "step")
    figures["wait_share"] = rounds.estimates("end_to_end")["wait_share"]
    if "torch" in rounds.values:
        figures["multiple_of_torch"] = rounds.ratio("end_to_end", "torch")
        figures["torch_wait_share"] = rounds.estimates("torch")["wait_share"]
    return figures


def _open_torch(stack: ExitStack, work: Work) -> Iterator[Batch]:
    """The batches of a torch DataLoader. Its workers have filled their queue and are idle."""
    import torch

    from slipform.bench.peers import torch_dataloader
    from slipform.pipelines.batch import Batch

    chosen = torch_dataloader.candidates(work)[0]
    peer = stack.enter_context(torch_dataloader.batches(work, chosen))
    next(peer)
    for _ in range(100):
        before = cpu_seconds()
        time.sleep(0.2)
        if cpu_seconds() - before < 0.02:
            break
    indices = torch.arange(work.batch_size)
    return (
        Batch(images.contiguous(memory_format=torch.channels_last), labels, indices)
        for images, labels in peer
    )


def _seconds(call: Any, device: str) -> float:
    """The seconds of a call, until the device has finished."""
    began = time.perf_counter()
    call()
    synchronize(device)
    return time.perf_counter() - began


def _copy(batch: Batch) -> Batch:
    """A copy of a batch that stays valid when the loader continues."""
    return replace(batch, images=batch.images.clone(), labels=batch.labels.clone())


def _endless(loader: Any) -> Iterator[Batch]:
    while True:
        yield from loader
