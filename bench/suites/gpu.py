"""Measure a GPU within a given time: the first half hour on a new machine.

In: the minutes, datasets, optionally a speed run to compare with. Out: rows of these parts:

- machine: versions, the GPU, missing modules
- ceilings: the rate of a copy in memory and of a matrix product
- kernels: drawing and rendering a batch, compared with the time of its memory traffic
- tests: `pytest -m gpu`
- jpeg: decoding with several shares of the hardware decoder
- step: each backbone with a fixed batch, the loader, end to end; at two batch sizes. Four points
  are compiled at the same time, and measured one after another
- loaders: Slipform's and DALI's
- accuracy: the recipe cifar10/fast, and the speed run

Each part runs in its own process and gets a share of the remaining time. A part that takes longer
is ended. After each part its rows are in the file OUT.partial. A part that is not possible has the
reason in its row.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slipform.bench.options import device_name, device_option, out_option
from slipform.bench.result.layout import Layout
from slipform.bench.result.result import Row
from slipform.bench.suites import finish, say
from slipform.pipelines.command import Command
from slipform.pipelines.errors import SlipformError

if TYPE_CHECKING:
    from slipform.bench.race.gpu import Measured
    from slipform.bench.race.gpu_items import Item

__all__ = ["LAYOUT", "PARTS", "all_items", "command"]

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
_BATCH_SIZES = (256, 1024)
_SMALL_BATCH_SIZES = (512, 2000)  # for small images
_STREAMED = (("resnet50", "vgg16"), ("stream", "dali"))  # also measured with these executors


@click.command(cls=Command)
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    help="The time limit, in minutes.",
)
@click.option(
    "--data",
    "folders",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A dataset folder: one of photographs, one of CIFAR-10. Can be repeated.",
)
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    help="Also measure this speed run: airbench94_muon.py.",
)
@click.option("--parts", default=",".join(PARTS), help="Parts, separated by commas. [default: all]")
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
    """Measure a GPU within a given time: the first half hour on a new machine.

    \b
    Example: bench gpu --minutes 30 --data data/caltech101 --data data/cifar10-all --against
             airbench94_muon.py
    """
    from slipform.bench.options import check_names, words
    from slipform.bench.race import speed_run
    from slipform.bench.race.gpu_items import run, together
    from slipform.bench.result.environment import stamp
    from slipform.bench.work import is_small

    ends = time.monotonic() + 60 * minutes
    chosen = words(parts)
    check_names("--parts", chosen, PARTS)
    device = device_name(device)
    small = [folder for folder in folders if is_small(folder)]
    if against:
        if not small:
            raise SlipformError("--against needs --data with CIFAR-10's pixels")
        speed_run.check(against, small[0])
    environment = stamp()
    items = [
        item
        for item in all_items(device, [f for f in folders if f not in small], small, against)
        if item.part in chosen
    ]

    def rows() -> Iterator[Row]:
        number = 0
        while number < len(items):
            group = together(items[number:])
            ahead = sum(other.weight for other in items[number:] if not other.lacks)
            left = ends - time.monotonic()
            weight = sum(item.weight for item in group)
            yield from run(group, left * weight / ahead if ahead else left, say)
            number += len(group)

    finish("gpu", rows(), out, environment)


def all_items(
    device: str, large: list[Path], small: list[Path], against: Path | None
) -> list[Item]:
    """All items, the fastest first.

    Args:
        device: "cuda" or "cpu"; most items are not possible on a CPU.
        large: Dataset folders of photographs.
        small: Dataset folders of small raw images.
        against: The script of a speed run; None: no speed run.
    """
    from slipform.bench.race import gpu, gpu_kernels, gpu_runs
    from slipform.bench.race.gpu_items import Item
    from slipform.bench.race.training_point import BACKBONES

    items = [
        Item("machine", "machine", 0.3, gpu.facts, (device,)),
        Item("ceilings", "memory and matrix units", 0.7, gpu.ceilings, (device,)),
        Item("kernels", "draw and render", 2, gpu_kernels.kernels, (device,)),
        Item("tests", "pytest -m gpu", 6, gpu.tests),
        Item("jpeg", "decoding", 2, gpu_kernels.jpeg, (device,)),
    ]
    points = [("fast", small, size, "resident") for size in _SMALL_BATCH_SIZES]
    points += [
        (net, large, size, "resident") for net, size in itertools.product(BACKBONES, _BATCH_SIZES)
    ]
    points += [
        (net, large, _BATCH_SIZES[0], executor) for net, executor in itertools.product(*_STREAMED)
    ]
    for net, folders, size, executor in points:
        lacks, data = _data(folders)
        what, point = gpu_runs.step_name(net, size, executor), (data, net, size, device, executor)
        items.append(Item("step", what, 1.2, gpu_runs.prepare_step, point, lacks, prepared=True))
    for folders in (large, small):
        lacks, data = _data(folders)
        kind = "photographs" if folders is large else "small images"
        items.append(Item("loaders", kind, 2, gpu_runs.measure_loaders, (data, device), lacks))
    lacks = "" if small else "needs --data with CIFAR-10's pixels"
    data = str(small[0]) if small else ""
    for launch in (1, 25):
        run, name = (data, "", device, launch), f"cifar10/fast, {launch} steps a launch"
        items.append(Item("accuracy", name, 2, _measure_fast, run, lacks))
    if against:
        race = (data, str(against), device)
        # It compiles for two minutes ("max-autotune") before its first run.
        items.append(Item("accuracy", against.name, 4, _measure_fast, race, lacks))
    if device == "cpu":
        items = [
            item if item.part == "machine" else replace(item, lacks="needs an NVIDIA GPU")
            for item in items
        ]
    return items


def _data(folders: list[Path]) -> tuple[str, str]:
    """What an item with a dataset lacks, and the folder."""
    from slipform.bench.race.gpu import is_installed
    from slipform.bench.work import stored_as

    if not folders:
        return "needs --data", ""
    if not is_installed("nvidia.dali") and stored_as(folders[0]) == "jpeg":
        return "JPEGs need DALI, which is not installed", ""
    return "", str(folders[0])


def _measure_fast(data: str, against: str, device: str, launch: int = 1) -> list[Measured]:
    """`bench accuracy` with three seeds: cifar10/fast, `launch` steps a launch, or a speed run."""
    from slipform.bench.race import gpu_runs
    from slipform.bench.suites import accuracy

    if against:
        row = accuracy.run_against(Path(against), Path(data), 3, 0.94, device)
    else:
        # "auto" does not compile short runs; the clock leaves compilation out.
        # A launch ends where losses are read.
        sets = (
            *("data.executor=resident", "train.compile=on", f"train.steps_per_launch={launch}"),
            f"train.log_every_steps={max(20, launch)}",
        )
        *_, row = accuracy.run(Path(data), "cifar10/fast", sets, 3, 0.94, device)
    name = Path(against).name if against else f"cifar10/fast, {launch} steps a launch"
    return [gpu_runs.measured(name, row)]
