"""Measure training: the step alone, the loader alone, both, and memory.

In: points: a net, a batch size, a precision, a memory format, a compile mode. Out: a row for each.
A point is measured in its own process (see slipform.bench.race.training):

(a) the step on one batch that is on the device already, (b) the loader alone, (c) both; and a torch
DataLoader with the same step. The row has c / a, the share of (c) that waits for the loader, peak
memory, compile time and the time to the first batch.

On a CPU, loader and step share the cores: c / a is below 1 because of the loader's work, not of
waiting. On a GPU, the host runs ahead of the device. Time with a full queue of the device also
counts as waiting, so the share of waiting is an upper bound. Use c / a there.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import click

from slipform.bench.options import (
    check_names,
    device_name,
    device_option,
    numbers,
    out_option,
    quick_option,
    words,
)
from slipform.bench.result.layout import Figure, Layout
from slipform.bench.result.plots import memory_bars, train_bars, wait_bars
from slipform.bench.result.quantities import quantity
from slipform.bench.result.result import Row, Settings
from slipform.bench.result.verdict import Verdict
from slipform.bench.suites import Kept, finish, say
from slipform.pipelines.command import Command
from slipform.pipelines.errors import SlipformError

if TYPE_CHECKING:
    from slipform.bench.race.race import Effort
    from slipform.bench.race.training_point import Point

__all__ = ["LAYOUT", "command", "run", "verdict"]


def verdict(results: Sequence[Sequence[Row]]) -> Verdict | None:
    """The speed of end-to-end training, compared with the step alone.

    Args:
        results: The rows with figures of each result.
    """
    rows = [row for part in results for row in part]
    if not rows:
        return None
    share = quantity("wait_share").number
    ratios = sorted(row.figures["end_to_end_ratio"].median for row in rows)
    waits = sorted(rows, key=lambda row: row.figures["wait_share"].median)
    middle = median(row.figures["wait_share"].median for row in rows)
    most, worst = waits[-1].figures["wait_share"].median, waits[-1].case
    several = " to ".join(dict.fromkeys(f"{one * 100:.0f} %" for one in (ratios[0], ratios[-1])))
    point = f"{worst['model']} on {worst['data']}, batch {worst['batch_size']}"
    beside = [row for row in rows if "torch_wait_share" in row.figures]
    text = (
        f"Training with the loader runs at {several} of the speed of the step alone. It waits for"
        f" data {share(middle)} of its time (median; {share(most)} at most)."
    )
    meaning = (
        f"of training time spent waiting for data: the median of {len(rows)} nets and batch sizes;"
        f" at most {share(most)} ({point})"
    )
    if beside:
        theirs = median(row.figures["torch_wait_share"].median for row in beside)
        meaning += f". Fed by a torch DataLoader: {share(theirs)}"
    return Verdict(text, share(middle), meaning)


LAYOUT = Layout(
    title="Training: the step alone, the loader alone, end to end",
    about=(
        "The same training step on a batch that is already there (the mark), fed by our loader, and"
        " fed by a torch DataLoader. Loading costs no time if a bar reaches its mark."
    ),
    rank=2,
    columns=(
        "step_images_per_second",
        "loader_images_per_second",
        "end_to_end_images_per_second",
        "end_to_end_ratio",
        "wait_share",
        "torch_images_per_second",
        "multiple_of_torch",
        "first_batch_seconds",
        "compile_seconds",
        "resident_bytes",
        "allocated_bytes",
        "reserved_bytes",
        "device_used_bytes",
    ),
    group=("data",),
    figures=(
        Figure(
            "train",
            train_bars,
            "Images per second end to end, for each net and batch size; the mark is the step"
            " alone.",
        ),
        Figure(
            "wait",
            wait_bars,
            "The share of training time spent waiting for data, at each net's batch size that"
            " waits most. Shorter is better.",
        ),
        Figure("memory", memory_bars, "Peak memory of each net at each batch size."),
    ),
    verdict=verdict,
)


@click.command(cls=Command)
@click.option(
    "--data",
    "folders",
    required=True,
    multiple=True,
    type=click.Path(path_type=Path),
    help="A dataset folder. Can be repeated.",
)
@click.option(
    "--models",
    default=None,
    help="Nets. [default: alexnet,resnet18,resnet34,resnet50,vgg16,tiny,cnn; small images:"
    " tiny,cnn,fast]",
)
@click.option(
    "--batch-sizes",
    default=None,
    help="Images in a batch. [default: 16,64; on a GPU 32 to 1024; --quick: 16]",
)
@click.option(
    "--precision", default="auto", show_default=True, help="One or more of auto, fp32, bf16, fp16."
)
@click.option(
    "--compile",
    "compiling",
    default="auto",
    show_default=True,
    help="One or more of auto, on, off, graphs.",
)
@click.option(
    "--layout",
    default="auto",
    show_default=True,
    help="Channels: one or more of auto, last, first.",
)
@click.option(
    "--executor",
    "--loader",
    "executor",
    default="auto",
    show_default=True,
    help="auto, dali, host, resident or stream. --loader is its old name.",
)
@device_option
@click.option(
    "--no-peer", is_flag=True, help="Do not measure a torch DataLoader with the same step."
)
@click.option(
    "--rounds",
    type=click.IntRange(1),
    help="Repeats of about 1 s, instead of 7 of 3 s. More of them give narrower intervals.",
)
@quick_option
@out_option
def command(
    folders: tuple[Path, ...],
    models: str | None,
    batch_sizes: str | None,
    precision: str,
    compiling: str,
    layout: str,
    executor: str,
    device: str,
    no_peer: bool,
    rounds: int | None,
    quick: bool,
    out: Path | None,
) -> None:
    """Measure training: the step alone, the loader alone, both, and memory.

    Every combination of the options is measured in its own process.

    \b
    Example: bench train --data data/caltech101 --models alexnet,resnet18 --batch-sizes 16,64
    """
    from slipform.bench.race.race import Effort
    from slipform.bench.race.training_point import MODELS, SMALL_MODELS, Point
    from slipform.bench.result.environment import stamp
    from slipform.bench.work import is_small
    from slipform.models.registry import find
    from slipform.models.spec import ModelConfig
    from slipform.pipelines.executors import NAMES

    precisions, compiles, layouts = map(words, (precision, compiling, layout))
    check_names("--precision", precisions, ("auto", "fp32", "bf16", "fp16"))
    check_names("--compile", compiles, ("auto", "on", "off", "graphs"))
    check_names("--layout", layouts, ("auto", "last", "first"))
    check_names("--executor", [executor], ("auto", *NAMES))
    device = device_name(device)
    sizes = numbers(
        batch_sizes
        or ("16" if quick else "16,64" if device == "cpu" else "32,64,128,256,512,1024"),
        "--batch-sizes",
    )
    large = "alexnet,resnet18" if quick else ",".join(MODELS)
    names = {
        data: words(models or (",".join(SMALL_MODELS) if is_small(data) else large))
        for data in folders
    }
    for name in itertools.chain(*names.values()):
        find(ModelConfig(name=name))
    environment = stamp()
    cores = environment.cores
    points = [
        Point(str(data), name, size, number, mode, where, executor, device, cores, not no_peer)
        for data in folders
        for name in names[data]
        for size in sizes
        for number in precisions
        for mode in compiles
        for where in layouts
    ]
    effort = Effort(rounds=7, seconds=3.0, warmup_seconds=0.5, min_batches=3)
    if quick:
        effort = replace(effort, rounds=3, seconds=0.5, warmup_seconds=0.0, min_batches=2)
    if rounds:
        effort = replace(effort, rounds=rounds, seconds=min(effort.seconds, 1.0))
    kept = Kept("train", out, environment, folders)
    rows = finish("train", run(points, effort, 6 if quick else 30, kept), out, environment, kept)
    if all(row.status != "ok" for row in rows):
        raise SlipformError("no point could be measured")


def run(
    points: list[Point], effort: Effort, auto_seconds: float = 30, kept: Kept | None = None
) -> Iterator[Row]:
    """Measure every point in its own process.

    Args:
        points: The conditions.
        effort: Rounds, span and warm-up.
        auto_seconds: The time to replace "auto" in a point; see the setting train.auto_seconds.
        kept: Rows that were measured before. None: there are none.

    Yields:
        A row for each point. If its process failed, the row has the reason.
    """
    from slipform.bench.race.training import measure_point
    from slipform.bench.race.training_point import decided
    from slipform.bench.race.worker import CallFailed, isolated
    from slipform.pipelines.manifest import read_manifest

    for number, point in enumerate(points, 1):
        say(
            f"{number} of {len(points)}: {point.model}, batch size {point.batch_size},"
            f" {point.precision}, compile {point.compile}"
        )
        case: Settings = {
            "data": read_manifest(Path(point.data)).dataset,
            "model": point.model,
            "batch_size": point.batch_size,
            "precision": point.precision,
            "compile": point.compile,
            "device": point.device,
        }
        if point.executor != "auto":
            case["executor"] = point.executor
        if point.layout != "auto":
            case["layout"] = point.layout
        if kept and (before := kept.of(case)):
            yield from before
            continue
        try:
            if "auto" in (point.precision, point.compile, point.layout):
                point = isolated(decided, point, auto_seconds)
            outcome = isolated(measure_point, point, effort)
        except CallFailed as failure:
            say(f"  {failure.status}: {failure.note}")
            yield Row(suite="train", case=case, status=failure.status, note=failure.note)
            continue
        yield Row(suite="train", case=case, settings=outcome.settings, figures=outcome.figures)
