"""Compare what "auto" chooses with every fixed choice.

In: datasets, nets, batch sizes. Out: a row for each net: the speed of its training step with each
precision and memory format, compiled and not, and the speed of the choice of "auto" as a share of
the fastest. A row for each dataset: the same for the executors of the loader.

For steps, "auto" decides as it does before a long run, without the machine's profile. After that,
the real steps of all choices are measured in turns, in the same process. The loader with each
executor has its own process.
"""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import chain
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import click

from slipform.bench.options import (
    device_name,
    device_option,
    numbers,
    out_option,
    quick_option,
    words,
)
from slipform.bench.result.layout import Layout
from slipform.bench.result.result import Estimate, Row, Settings
from slipform.bench.suites import Kept, finish, say
from slipform.pipelines.command import Command
from slipform.pipelines.errors import SlipformError
from slipform.pipelines.executors import NAMES

if TYPE_CHECKING:
    from slipform.bench.race.training_point import Point

__all__ = ["LAYOUT", "command", "measure"]

_RATE = "_images_per_second"
LAYOUT = Layout(
    title='The choice of "auto"',
    about='Precision, memory format, torch.compile: "auto" measures a few steps before a run and'
    " chooses. Executor: it takes `resident` if the decoded images fit in a quarter of the free"
    " memory. Its share is its speed divided by that of the fastest choice, in the same rounds.",
    rank=4,
    group=("choice",),
    columns=(
        "auto_of_fastest_ratio",
        "decision_seconds",
        *(
            f"{one}_{layout}{compiled}{_RATE}"
            for compiled in ("", "_compiled")
            for one in ("fp32", "bf16")
            for layout in ("last", "first")
        ),
        *(f"{name}{_RATE}" for name in NAMES),
    ),
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
    help='Nets, or "none": the executors alone. [default: alexnet,resnet18,vgg16; small images:'
    " tiny,cnn,fast]",
)
@click.option("--batch-sizes", default="16", show_default=True, help="Images in a batch.")
@click.option(
    "--compiled/--not-compiled",
    default=True,
    help="Also measure compiled steps, which takes a minute more for each net. [default:"
    " --compiled]",
)
@device_option
@quick_option
@out_option
def command(
    folders: tuple[Path, ...],
    models: str | None,
    batch_sizes: str,
    compiled: bool,
    device: str,
    quick: bool,
    out: Path | None,
) -> None:
    """Compare what "auto" chooses for the steps of a net, and for the loader, with every fixed
    choice.

    \b
    Example: bench auto --data data/caltech101 --models alexnet,resnet18
    """
    from slipform.bench.race.executors import executors_case, executors_row
    from slipform.bench.race.race import FULL, QUICK
    from slipform.bench.race.training_point import Point
    from slipform.bench.race.worker import CallFailed, isolated
    from slipform.bench.result.environment import stamp
    from slipform.models.registry import find
    from slipform.models.spec import ModelConfig
    from slipform.pipelines.manifest import read_manifest

    environment = stamp()
    kept = Kept("auto", out, environment, folders)
    points = [
        Point(str(data), name, size, device=device_name(device), cores=environment.cores)
        for data in folders
        for name in _nets(models, data)
        for size in numbers(batch_sizes, "--batch-sizes")
    ]
    for point in points:
        find(ModelConfig(name=point.model))

    def row(point: Point) -> Row:
        say(f"{point.model}, batch size {point.batch_size}")
        case: Settings = {
            "data": read_manifest(Path(point.data)).dataset,
            "model": point.model,
            "batch_size": point.batch_size,
            "device": point.device,
        }
        if before := kept.of(case):
            return before[0]
        try:
            settings, figures = isolated(
                measure, point, *((3, 0.2, 6.0) if quick else (9, 1.0, 30.0)), compiled
            )
        except CallFailed as failure:
            say(f"  {failure.status}: {failure.note}")
            return Row(suite="auto", case=case, status=failure.status, note=failure.note)
        return Row(suite="auto", case=case, settings=settings, figures=figures)

    def executors(folder: Path) -> Row:
        where = folder, environment.cores, device_name(device)
        if before := kept.of(executors_case(*where)):
            return before[0]
        return executors_row(*where, QUICK if quick else FULL, say)

    found = chain(map(executors, folders), map(row, points))
    rows = finish("auto", found, out, environment, kept)
    if all(row.status != "ok" for row in rows):
        raise SlipformError("nothing could be measured")


def _nets(models: str | None, data: Path) -> tuple[str, ...]:
    from slipform.bench.race.training_point import SMALL_MODELS
    from slipform.bench.work import is_small

    if models is None:
        return SMALL_MODELS if is_small(data) else ("alexnet", "resnet18", "vgg16")
    return () if models == "none" else tuple(words(models))


def measure(
    point: Point, rounds: int, seconds: float, auto_seconds: float, compiled: bool
) -> tuple[Settings, dict[str, Estimate]]:
    """Let "auto" decide, and measure all choices in turns, in this process.

    Args:
        point: The net, its data and its batch size; precision, compile and layout are "auto".
        rounds: Rounds of all choices.
        seconds: About the time of a choice in a round; one step at least.
        auto_seconds: The setting train.auto_seconds, for the decision.
        compiled: Whether steps are measured compiled and not. False: as "auto" chose.

    Returns:
        The choice of "auto" and the fastest one; the share of the fastest, the seconds of the
        decision, and the images/s of each choice.
    """
    from slipform.bench.race.measure import estimate, ratio
    from slipform.bench.race.training_point import decided, run_config
    from slipform.bench.work import usual_work
    from slipform.pipelines.manifest import read_manifest
    from slipform.train.machine.device import set_up
    from slipform.train.machine.distributed import join
    from slipform.train.run.trial import Trial, Variant, variants

    folder = Path(point.data)
    manifest, began = read_manifest(folder), time.perf_counter()
    found = decided(point, auto_seconds, known=False)
    decision_seconds = time.perf_counter() - began
    work = usual_work(
        folder,
        batch_size=point.batch_size,
        cores=point.cores,
        device=point.device,
        dtype="float32",
    )
    with join(point.device) as process:
        config = run_config(point if compiled else replace(point, compile=found.compile), work)
        set_up(config.train, process.device)
        choices = variants(config.train, process.device, compile_too=compiled)
        rates: dict[Variant, list[float]] = {one: [] for one in choices}
        with Trial(config, manifest, process) as trial:
            steps = {}
            for one in choices:
                trial.step(one)  # the first step finds algorithms and takes memory
                steps[one] = max(1, round(seconds / trial.step(one)))
            for number in range(rounds):
                for one in choices if number % 2 == 0 else reversed(choices):
                    spent = sum(trial.step(one) for _ in range(steps[one]))
                    rates[one].append(steps[one] * point.batch_size / spent)
    chosen = Variant(found.precision, found.layout == "last", found.compile)  # type: ignore[arg-type]
    fastest = max(choices, key=lambda one: median(rates[one]))
    figures = {
        "auto_of_fastest_ratio": ratio(rates[chosen], rates[fastest]),
        "decision_seconds": estimate([decision_seconds]),
    }
    for one in choices:
        layout = "last" if one.channels_last else "first"
        ending = "_compiled" if one.compile == "on" else ""
        figures[f"{one.precision}_{layout}{ending}{_RATE}"] = estimate(rates[one])
    return {"auto": str(chosen), "fastest": str(fastest)}, figures
