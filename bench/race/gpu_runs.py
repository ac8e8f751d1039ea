"""Measurements of `bench gpu` with datasets: the step of a net, and the loaders.

In: arguments that can be pickled; each function runs in its own process. Out: `Measured` values.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from slipform.bench.race.gpu import Measured
from slipform.bench.race.loading import EXECUTORS, Conditions, races, run_race
from slipform.bench.race.race import QUICK, Effort
from slipform.bench.race.training import Prepared, prepared
from slipform.bench.race.training_point import Point
from slipform.bench.result.result import Row
from slipform.pipelines.machine import num_cores

__all__ = ["PreparedStep", "measure_loaders", "measured", "prepare_step", "step_name"]


def step_name(net: str, batch_size: int, executor: str) -> str:
    """The name of a row: "resnet50, batch 256, stream".

    Args:
        net: The name of the net.
        batch_size: Images in a batch.
        executor: The name of the executor.
    """
    return f"{net}, batch {batch_size}" + ("" if executor == "resident" else f", {executor}")


@contextmanager
def prepare_step(
    data: str,
    net: str,
    batch_size: int,
    device: str,
    executor: str = "resident",
    rounds: int = 5,
    seconds: float = 1.0,
) -> Iterator[PreparedStep]:
    """Prepare a point of `bench train`: the step on a fixed batch, the loader, end to end.

    Args:
        data: The dataset folder.
        net: The name of a net in the registry.
        batch_size: Images in a batch.
        device: "cpu" or "cuda".
        executor: The setting data.executor.
        rounds: The number of repeats.
        seconds: The span of a repeat.
    """
    cores = num_cores()
    point = Point(data, net, batch_size, executor=executor, device=device, cores=cores, peer=False)
    effort = Effort(rounds=rounds, seconds=seconds, warmup_seconds=0.2, min_batches=3)
    with prepared(point, effort) as ready:
        yield PreparedStep(step_name(net, batch_size, executor), ready)


@dataclass(frozen=True)
class PreparedStep:
    """A point that is compiled and can be measured at once.

    Attributes:
        name: The name of its row.
        point: The point.
    """

    name: str
    point: Prepared

    def measure(self) -> list[Measured]:
        """Measure it. Nothing else may compute in the meantime."""
        outcome = self.point.measure()
        return [Measured(self.name, outcome.figures, outcome.settings)]


def measure_loaders(data: str, device: str) -> list[Measured]:
    """Measure `bench loaders --quick` with DALI's reader, without color jitter.

    Args:
        data: The dataset folder.
        device: "cpu" or "cuda".
    """
    conditions = Conditions(num_cores(), device=device, dtype="bfloat16", jitter=(False,))
    found = []
    for race in races(Path(data), conditions):
        rows = run_race(race, ["dali_reader"], EXECUTORS[race.input], QUICK, _say)
        found += [measured(f"{race.input}: {row.case['loader']}", row) for row in rows]
    return found


def measured(name: str, row: Row) -> Measured:
    """The row of another suite as a row of `bench gpu`.

    Args:
        name: The name of the row.
        row: The row.
    """
    note = "" if row.status == "ok" else f"{row.status}: {row.note}"
    return Measured(name, row.figures, row.settings, note)


def _say(message: str) -> None:
    click.echo(message, err=True)
