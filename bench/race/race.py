"""The race: measurements of several contestants that can be compared.

In: contestants, each a function that measures it once; an `Effort`. Out: `Rounds`, the measurements
of every round.

The contestants are measured in turns, in rounds. The speed of a machine drifts, and a slow round is
slow for all of them: a ratio between two contestants is computed within each round. Every other
round has the reverse order. A turn begins when all contestants are idle: a loader fills its queue
after its turn, and the workers of a torch DataLoader decode photos for seconds. A repeat is a span
of time after a warm-up. The clock is read only when the device has finished.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import psutil

from slipform.bench.race.measure import estimate, ratio
from slipform.bench.race.worker import CallFailed
from slipform.bench.result.result import Estimate

__all__ = [
    "FULL", "QUICK", "Effort", "Rounds", "await_idle", "cpu_seconds", "race", "synchronize",
    "timed",
]  # fmt: skip

_LOOK = 0.1  # seconds between two looks at whether the contestants still work
_BUSY = 0.25  # CPU cores; counting them takes up to a tenth of a core
_LONGEST = 30.0  # seconds
_SILENCE = 60.0  # seconds between two messages

_Measure = Callable[[], Mapping[str, float]]
_B = TypeVar("_B")


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Attributes:
        rounds: Repeats of each contestant.
        seconds: The measured span of a repeat.
        warmup_seconds: The warm-up before each span; it has at least min_batches batches.
        warmup_rounds: Rounds before the first one; their measurements are discarded.
        min_batches: The minimum number of batches in a span and in a warm-up. It must be larger
            than the queue of a loader.
        search: Whether to search for the best settings of a peer.
        search_seconds: The time for each setting in the search.
        openings: How often to measure the time to the first batch.
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
    """The measurements of all contestants.

    Attributes:
        values: Contestant -> quantity -> values, one for each round. Only contestants that
            finished.
        failures: Contestant -> the reason why it did not finish.
    """

    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    failures: dict[str, CallFailed] = field(default_factory=dict)

    def drop(self, name: str, failure: CallFailed) -> None:
        """Remove a contestant and its measurements.

        Args:
            name: The contestant.
            failure: The reason.
        """
        del self.values[name]
        self.failures[name] = failure

    def estimates(self, name: str) -> dict[str, Estimate]:
        """Every quantity of a contestant, with its interval.

        Args:
            name: The contestant.
        """
        return {quantity: estimate(found) for quantity, found in self.values[name].items()}

    def ratio(self, ours: str, theirs: str, quantity: str = "images_per_second") -> Estimate:
        """The ratio of a quantity between two contestants, computed within each round.

        Args:
            ours: The contestant of the numerator.
            theirs: The contestant of the denominator.
            quantity: The quantity.
        """
        return ratio(self.values[ours][quantity], self.values[theirs][quantity])


def race(
    contestants: Mapping[str, _Measure],
    rounds: int,
    warmup_rounds: int = 0,
    say: Callable[[str], None] | None = None,
) -> Rounds:
    """Measure all contestants in turns.

    Args:
        contestants: Name -> a function that measures the contestant once and returns quantities in
            base units. A contestant that raises `CallFailed` is removed.
        rounds: How often each contestant is measured.
        warmup_rounds: Rounds before these; their measurements are discarded.
        say: Called once a minute, after a round, with the progress and the time left.
    """
    found = Rounds(values={name: {} for name in contestants})
    waits = len(contestants) > 1
    began = said = time.perf_counter()
    for number in range(-warmup_rounds, rounds):
        names = list(contestants) if number % 2 == 0 else list(contestants)[::-1]
        for name in names:
            if name in found.failures:
                continue
            waits = waits and await_idle()
            try:
                measured = contestants[name]()
            except CallFailed as failure:
                found.drop(name, failure)
                continue
            for quantity, value in measured.items() if number >= 0 else ():
                found.values[name].setdefault(quantity, []).append(value)
        now, done, left = time.perf_counter(), number + warmup_rounds + 1, rounds - number - 1
        if say is not None and left and now - said >= _SILENCE:
            minutes = math.ceil((now - began) / done * left / 60)
            say(f"  round {done} of {done + left}; about {minutes} min left")
            said = now
    return found


def await_idle() -> bool:
    """Wait until this process and its children need no more CPU time.

    Returns:
        Whether they are idle; False after 30 seconds. A contestant may compute while it waits. The
        race then does not wait again.
    """
    end = time.perf_counter() + _LONGEST
    while time.perf_counter() < end:
        before, began = cpu_seconds(), time.perf_counter()
        time.sleep(_LOOK)
        if cpu_seconds() - before < _BUSY * (time.perf_counter() - began):
            return True
    return False


def timed(
    batches: Iterator[_B],
    device: str,
    effort: Effort,
    step: Callable[[_B], Any] | None = None,
) -> dict[str, float]:
    """Measure an iterator of batches for a span of time, after a warm-up.

    Args:
        batches: Endless; each batch unpacks as images and labels. The iterator may have a method
            `stats()`, which returns the seconds that each stage of the loader has worked so far.
        device: The device to wait for before the clock is read.
        effort: The warm-up, the span and the minimum number of batches.
        step: Called with each batch. Default: nothing.

    Returns:
        images_per_second; cpu_cores: CPU seconds of this process and its children for each second;
        with a step, wait_share: the share of the span in next(batches); for each stage of the
        loader its seconds_per_image, summed over threads.
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
    """Take batches. Return the number of images, and the seconds in next(batches)."""
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
    """Wait until a GPU has finished its work. It does nothing for a CPU.

    Args:
        device: "cpu", "cuda" or "cuda:N".
    """
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize(device)


def cpu_seconds() -> float:
    """User and system time of this process and its children, in seconds.

    This includes running children, and ended ones that were waited for.
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
