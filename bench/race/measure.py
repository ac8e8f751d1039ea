"""How a number comes about: repeats, their median and its interval, and ratios between contestants.

In: measurements in base units. Out: `Estimate`.

Contestants are measured in turns (A B A B ...), a round at a time, because a machine drifts (clock,
heat, neighbors): what slows one round slows both, and a ratio is formed within each round before
its median is taken. A repeat is a fixed span of time after a warm-up, on a clock that is read only
when the device has finished (`synchronize`).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from slipform.bench.result.result import Estimate


@dataclass(frozen=True)
class Effort:
    """How long to measure. rounds: repeats of each contestant; seconds: the timed span of one,
    after warmup_seconds; min_batches: timed at least, and thrown away before, however slow: more
    than a loader's queue holds. search_seconds: the span in which one setting is tried; search:
    whether other settings than the usual ones are tried. openings: how often the time to the first
    batch is measured.
    """

    rounds: int = 11
    seconds: float = 2.0
    warmup_seconds: float = 0.5
    search_seconds: float = 1.0
    search: bool = True
    min_batches: int = 8
    openings: int = 3


FULL = Effort()
QUICK = Effort(rounds=5, seconds=0.5, warmup_seconds=0.2, search=False, min_batches=4, openings=1)


def interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """The distribution-free interval of the median: two order statistics of the sorted values.

    The k-th smallest and k-th largest of n values enclose the median unless fewer than k values
    fall on one side of it; each falls there with probability 1/2, so the interval misses with 2
    P(Binomial(n, 1/2) < k). k is the largest that keeps this within 1 - confidence (Conover,
    Practical Nonparametric Statistics, 3.2). It assumes nothing about the noise. Fewer than six
    values cannot reach 95 %: smallest and largest are given then (five: 93.75 %, three: 75 %).
    """
    ordered = sorted(values)
    n = len(ordered)
    below, k = 0.0, 0
    while k < n // 2 and 2 * (below + math.comb(n, k) * 0.5**n) <= 1 - confidence:
        below += math.comb(n, k) * 0.5**n
        k += 1
    k = max(k, 1)
    return ordered[k - 1], ordered[n - k]


def figure(values: Sequence[float]) -> Estimate:
    """The median of `values` (at least one, finite) with its 95 % interval."""
    low, high = interval(values)
    return Estimate(
        median=float(statistics.median(values)),
        low=float(low),
        high=float(high),
        repeats=len(values),
    )


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Estimate:
    """The median of ours / theirs, formed round by round. Both were measured in the same rounds."""
    assert len(ours) == len(theirs)
    return figure([a / b for a, b in zip(ours, theirs, strict=True)])


def interleave(
    contestants: Mapping[str, Callable[[], dict[str, float]]],
    rounds: int,
    on_round: Callable[[int], None] = lambda number: None,
) -> dict[str, dict[str, list[float]]]:
    """Run every contestant once a round, `rounds` times. Every second round runs in the opposite
    order, so that none is always the one after the same neighbor. Returns contestant ->
    measurement name -> one value a round.
    """
    values: dict[str, dict[str, list[float]]] = {name: {} for name in contestants}
    for number in range(rounds):
        names = list(contestants) if number % 2 == 0 else list(contestants)[::-1]
        for name in names:
            for key, value in contestants[name]().items():
                values[name].setdefault(key, []).append(value)
        on_round(number + 1)
    return values


def synchronize(device: str) -> None:
    """Wait until the device has done what was asked of it; a CPU always has."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize(device)
