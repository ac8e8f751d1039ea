"""The race: how contestants are measured beside each other.

In: contestants, each of them a function that measures it once; an `Effort`. Out: `Rounds`, the
measurements of every round.

The contestants take turns, a round at a time, because a machine drifts: what slows one round slows
all of them, and a ratio between two is formed within each round. The order is reversed in every
other round. A repeat is a span of time after a warm-up, on a clock that is read only when the
device has finished.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import psutil

from slipform.bench.race.measure import estimate, ratio
from slipform.bench.race.worker import CallFailed
from slipform.bench.result.result import Estimate

Measure = Callable[[], Mapping[str, float]]
B = TypeVar("B")


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Args:
        rounds: Repeats of each contestant.
        seconds: The timed span of a repeat.
        warmup_seconds: What is thrown away before each span, at least min_batches.
        warmup_rounds: Whole rounds that are thrown away at first.
        min_batches: The least number of batches in a span and in the warm-up, however slow they
            are: more than the queue of a loader holds.
        search: Whether a peer tries other settings than its usual ones.
        search_seconds: How long each of them is tried.
        openings: How often the time to the first batch is measured.
    """

    rounds: int = 11
    seconds: float = 2.0
    warmup_seconds: float = 0.5
    warmup_rounds: int = 0
    min_batches: int = 8
    search: bool = True
    search_seconds: float = 1.0
    openings: int = 3


FULL = Effort()
QUICK = Effort(rounds=5, seconds=0.5, warmup_seconds=0.2, search=False, min_batches=4, openings=1)


@dataclass
class Rounds:
    """What every contestant measured.

    Args:
        values: For each contestant that finished, each quantity's values, one a round.
        failures: Why the others did not.
    """

    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    failures: dict[str, CallFailed] = field(default_factory=dict)

    def drop(self, name: str, failure: CallFailed) -> None:
        """Take a contestant out: what it measured before does not count."""
        del self.values[name]
        self.failures[name] = failure

    def estimates(self, name: str) -> dict[str, Estimate]:
        """Every quantity of one contestant, with its interval."""
        return {quantity: estimate(found) for quantity, found in self.values[name].items()}

    def ratio(self, ours: str, theirs: str, quantity: str = "images_per_second") -> Estimate:
        """The ratio of a quantity between two contestants, formed within each round."""
        return ratio(self.values[ours][quantity], self.values[theirs][quantity])


def race(contestants: Mapping[str, Measure], rounds: int, warmup_rounds: int = 0) -> Rounds:
    """Measure all contestants in turns.

    Args:
        contestants: By name, what measures it once: quantities in base units. One that raises
            `CallFailed` is out of the race, and what it measured before does not count.
        rounds: How often each is measured.
        warmup_rounds: Rounds before these, whose measurements are thrown away.

    Returns:
        The measurements.
    """
    found = Rounds(values={name: {} for name in contestants})
    for number in range(-warmup_rounds, rounds):
        names = list(contestants) if number % 2 == 0 else list(contestants)[::-1]
        for name in names:
            if name in found.failures:
                continue
            try:
                measured = contestants[name]()
            except CallFailed as failure:
                found.drop(name, failure)
                continue
            for quantity, value in measured.items() if number >= 0 else ():
                found.values[name].setdefault(quantity, []).append(value)
    return found


def timed(
    batches: Iterator[B],
    device: str,
    effort: Effort,
    step: Callable[[B], Any] | None = None,
) -> dict[str, float]:
    """Take batches for a span of time, after a warm-up that empties the loader's queue.

    Args:
        batches: Endless; each unpacks as images and labels. They may have a `stats()` that
            tells how many seconds each stage of the loader has worked so far.
        device: What is waited for before the clock is read.
        effort: Warm-up, span and least number of batches.
        step: What is done with each batch.

    Returns:
        images_per_second; cpu_cores: processor seconds of this process and its children for each
        second; with a step wait_share, the share of the span that next(batches) took; for every
        stage of the loader its seconds_per_image (threads add up).
    """
    stats: Callable[[], dict[str, float]] = getattr(batches, "stats", dict)
    _take(batches, step, effort.min_batches, effort.warmup_seconds)
    synchronize(device)
    before, cpu, start = stats(), cpu_seconds(), time.perf_counter()
    images, waited = _take(batches, step, effort.min_batches, effort.seconds)
    synchronize(device)
    elapsed = time.perf_counter() - start
    found = {"images_per_second": images / elapsed, "cpu_cores": (cpu_seconds() - cpu) / elapsed}
    if step is not None:
        found["wait_share"] = waited / elapsed
    for name, total in stats().items():
        if name.endswith("_seconds"):
            found[f"{name}_per_image"] = (total - before[name]) / images
    return found


def _take(
    batches: Iterator[Any], step: Callable[[Any], Any] | None, at_least: int, seconds: float
) -> tuple[int, float]:
    """Returns the number of images, and the seconds that next(batches) took."""
    images, taken, waited = 0, 0, 0.0
    end = time.perf_counter() + seconds
    while taken < at_least or time.perf_counter() < end:
        began = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - began
        if step is not None:
            step(batch)
        _, labels = batch
        images += len(labels)
        taken += 1
    return images, waited


def synchronize(device: str) -> None:
    """Wait until the device has done what was asked of it; a CPU always has."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize(device)


def cpu_seconds() -> float:
    """User and system time of this process and its children, in seconds.

    Living children count, and ended ones that were waited for.
    """
    own = psutil.Process()
    times = own.cpu_times()
    total = times.user + times.system + times.children_user + times.children_system
    for child in own.children(recursive=True):
        try:
            times = child.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total
