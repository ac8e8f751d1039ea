"""Measure everything about a GPU within a given time: the first half hour on a new machine.

In: the minutes, datasets, perhaps a speed run to race against. Out: rows of these parts:

- machine: versions, the GPU, missing modules
- ceilings: what the memory and the matrix units give
- kernels: drawing and rendering a batch, beside the time that its memory traffic takes
- tests: `pytest -m gpu`
- jpeg: decoding by the share of the hardware decoder
- step: each backbone with a fixed batch, the loader, end to end; at two batch sizes
- loaders: ours and DALI's
- accuracy: the recipe cifar10/fast, and the speed run

Each part has a process of its own and a share of the time that is left. A part that is over its
time is ended. The JSON is written after each part. What the machine lacks is left out, and the row
says so.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from slipform.bench.options import device_name, device_option, out_option
from slipform.bench.result.layout import Layout
from slipform.bench.result.result import Row, Settings
from slipform.bench.suites import finish, say
from slipform.pipelines.errors import Command, SlipformError

if TYPE_CHECKING:
    from slipform.bench.race.gpu import Measured

LAYOUT = Layout(
    title="A GPU",
    rank=10,
    columns=(
        "copy_bytes_per_second",
        "product_flops_per_second",
        "draw_seconds",
        "render_seconds",
        "floor_seconds",
        "floor_ratio",
        "step_images_per_second",
        "loader_images_per_second",
        "end_to_end_images_per_second",
        "end_to_end_ratio",
        "images_per_second",
        "seconds_to_target",
        "accuracy",
    ),
)
PARTS = ("machine", "ceilings", "kernels", "tests", "jpeg", "step", "loaders", "accuracy")
BATCH_SIZES = (256, 1024)
SMALL_BATCH_SIZES = (512, 2000)
_LEAST_SECONDS = 5.0  # less is not worth a start


@dataclass(frozen=True)
class Item:
    """A piece of a part, in a process of its own.

    Args:
        part: One of PARTS.
        what: Its name within the part.
        weight: Its share of the time, beside those of the items left.
        measure: Importable; gives `Measured` values.
        arguments: What `measure` gets.
        lacks: Why it cannot be done; "" where it can.
    """

    part: str
    what: str
    weight: float
    measure: Callable[..., list[Measured]]
    arguments: tuple[Any, ...] = ()
    lacks: str = ""


@click.command(cls=Command)
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    help="It ends by itself within these.",
)
@click.option(
    "--data",
    "folders",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A dataset folder: one of photographs, one of CIFAR-10. May be repeated.",
)
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    help="A speed run to time as well: airbench94_muon.py.",
)
@click.option("--parts", default=",".join(PARTS), help="Some of them, by commas. [all]")
@device_option
@out_option
def command(
    minutes: float,
    folders: tuple[Path, ...],
    against: Path | None,
    parts: str,
    device: str,
    out: Path | None,
) -> None:
    """Measure everything about a GPU within a given time: the first half hour on a new machine.

    \b
    Example: bench gpu --minutes 30 --data data/caltech101 --data data/cifar10-all --against
             airbench94_muon.py
    """
    from slipform.bench.options import check_names
    from slipform.bench.race import speed_run
    from slipform.bench.result.environment import command_line, stamp
    from slipform.bench.result.result import Result, write_result
    from slipform.bench.work import is_small

    ends = time.monotonic() + 60 * minutes
    chosen = parts.split(",")
    check_names("--parts", chosen, PARTS)
    device = device_name(device)
    small = [folder for folder in folders if is_small(folder)]
    if against:
        if not small:
            raise SlipformError("--against needs --data with CIFAR-10's pixels")
        speed_run.check(against, small[0])
    environment = stamp()
    path = out or Path("runs/bench/gpu.json")
    rows: list[Row] = []
    items = [
        item
        for item in all_items(device, [f for f in folders if f not in small], small, against)
        if item.part in chosen
    ]
    for number, item in enumerate(items):
        ahead = sum(other.weight for other in items[number:] if not other.lacks)
        left = ends - time.monotonic()
        rows += run(item, left * item.weight / ahead if ahead else left)
        write_result(path, Result(environment=environment, command=command_line(), rows=rows))
    finish("gpu", rows, path, environment)


def run(item: Item, seconds: float) -> list[Row]:
    """Measure an item.

    Args:
        item: What.
        seconds: Its limit.

    Returns:
        Its rows; one that says why, where there is nothing.
    """
    from slipform.bench.race import gpu
    from slipform.bench.race.worker import CallFailed, isolated

    case: Settings = {"part": item.part, "what": item.what}
    if item.lacks:
        return [Row(suite="gpu", case=case, status="not possible", note=item.lacks)]
    if seconds < _LEAST_SECONDS:
        return [Row(suite="gpu", case=case, status="not possible", note="no time was left")]
    say(f"{item.part}: {item.what}, at most {seconds:.0f} s")
    # The tests are ended a little earlier, so that what they printed is not lost.
    arguments = (seconds - 3.0,) if item.measure is gpu.tests else item.arguments
    try:
        found = isolated(item.measure, *arguments, seconds=seconds)
    except CallFailed as failure:
        say(f"  {failure.status}: {failure.note}")
        return [Row(suite="gpu", case=case, status=failure.status, note=failure.note)]
    return [
        Row(
            suite="gpu",
            case=case | {"what": one.what},
            settings=one.settings,
            figures=one.figures,
            note=one.note,
        )
        for one in found
    ]


def all_items(
    device: str, large: list[Path], small: list[Path], against: Path | None
) -> list[Item]:
    """Everything there is to measure, the quickest first.

    Args:
        device: "cuda", or "cpu": most items then say what they lack.
        large: Dataset folders of photographs.
        small: Of small raw images.
        against: A speed run.
    """
    from slipform.bench.race import gpu, gpu_kernels
    from slipform.bench.race.training import BACKBONES

    items = [
        Item("machine", "machine", 0.3, gpu.facts, (device,)),
        Item("ceilings", "memory and matrix units", 0.7, gpu.ceilings, (device,)),
        Item("kernels", "draw and render", 2, gpu_kernels.kernels, (device,)),
        Item("tests", "pytest -m gpu", 6, gpu.tests),
        Item("jpeg", "decoding", 2, gpu_kernels.jpeg, (device,)),
    ]
    names = [("fast", small, size) for size in SMALL_BATCH_SIZES]
    names += [(net, large, size) for net, size in itertools.product(BACKBONES, BATCH_SIZES)]
    for net, folders, size in names:
        lacks, data = ("", str(folders[0])) if folders else ("needs --data", "")
        point = (data, net, size, device)
        items.append(Item("step", f"{net}, batch {size}", 1.2, measure_step, point, lacks))
    for folders in (large, small):
        lacks, data = ("", str(folders[0])) if folders else ("needs --data", "")
        kind = "photographs" if folders is large else "small images"
        items.append(Item("loaders", kind, 2, measure_loaders, (data, device), lacks))
    lacks = "" if small else "needs --data with CIFAR-10's pixels"
    data = str(small[0]) if small else ""
    items.append(Item("accuracy", "cifar10/fast", 2, measure_fast, (data, "", device), lacks))
    if against:
        race = (data, str(against), device)
        items.append(Item("accuracy", against.name, 2, measure_fast, race, lacks))
    if device == "cpu":
        items = [
            item if item.part == "machine" else replace(item, lacks="needs an NVIDIA GPU")
            for item in items
        ]
    return items


def measure_step(
    data: str, net: str, batch_size: int, device: str, rounds: int = 5, seconds: float = 1.0
) -> list[Measured]:
    """One point of `bench train`: the step on a fixed batch, the loader, end to end."""
    from slipform.bench.race.gpu import Measured
    from slipform.bench.race.race import Effort
    from slipform.bench.race.training import Point, measure_point
    from slipform.pipelines.machine import num_cores

    point = Point(
        data,
        net,
        batch_size,
        executor="resident",
        device=device,
        cores=num_cores(),
        peer=False,
    )
    effort = Effort(rounds=rounds, seconds=seconds, warmup_seconds=0.2, min_batches=3)
    outcome = measure_point(point, effort)
    return [Measured(f"{net}, batch {batch_size}", outcome.figures, outcome.settings)]


def measure_loaders(data: str, device: str) -> list[Measured]:
    """`bench loaders --quick` beside DALI's own reader, without color jitter."""
    from slipform.bench.race.gpu import Measured
    from slipform.bench.race.loading import EXECUTORS, Conditions, races, run_race
    from slipform.bench.race.race import QUICK
    from slipform.pipelines.machine import num_cores

    conditions = Conditions(num_cores(), device=device, dtype="bfloat16", jitter=(False,))
    found = []
    for race in races(Path(data), conditions):
        rows = run_race(race, ["dali_reader"], EXECUTORS[race.input], QUICK, say)
        found += [
            Measured(
                f"{race.input}: {row.case['loader']}",
                row.figures,
                row.settings,
                "" if row.status == "ok" else f"{row.status}: {row.note}",
            )
            for row in rows
        ]
    return found


def measure_fast(data: str, against: str, device: str) -> list[Measured]:
    """`bench accuracy` with three seeds: the recipe cifar10/fast, or a speed run."""
    from slipform.bench.race.gpu import Measured
    from slipform.bench.suites import accuracy

    if against:
        row = accuracy.run_against(Path(against), Path(data), 3, 0.94, device)
    else:
        row = accuracy.run(Path(data), "cifar10/fast", (), 3, 0.94, device)
    note = "" if row.status == "ok" else f"{row.status}: {row.note}"
    name = Path(against).name if against else "cifar10/fast"
    return [Measured(name, row.figures, row.settings, note)]
