"""The commands that measure. In: options. Out: tables on standard output, results as JSON, progress
on standard error."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slipform.bench.commands.options import (
    check_names,
    data_argument,
    data_arguments,
    device_name,
    device_option,
    numbers,
    out_option,
    peers_option,
    quick_option,
    typed,
)
from slipform.pipelines.errors import Command, SlipformError

if TYPE_CHECKING:
    from slipform.bench.race.measure import Effort
    from slipform.bench.result.result import Environment, Row


def _say(text: str) -> None:
    click.echo(text, err=True)


def _effort(quick: bool) -> Effort:
    from slipform.bench.race.measure import FULL, QUICK

    return QUICK if quick else FULL


def _finish(suite: str, rows: list[Row], out: Path | None, environment: Environment) -> None:
    """Print the table and write the file."""
    from slipform.bench.result.environment import command_line
    from slipform.bench.result.result import Result, write_result
    from slipform.bench.result.tables import STAGES, constants, markdown, stage_cells, table

    path = out or Path("runs/bench") / f"{suite}.json"
    write_result(path, Result(environment=environment, command=command_line(), rows=rows))
    click.echo(f"{environment.machine}; commit {environment.commit}; {constants(rows)}")
    click.echo(
        "Median and 95 % interval of the median (of fewer than six repeats: smallest and"
        " largest).\n"
    )
    click.echo(table(rows))
    if stages := stage_cells(rows):
        click.echo(f"\n{STAGES}\n\n{markdown(*stages)}")
    click.echo(f"\nwritten to {path}")


@click.command(cls=Command)
@data_arguments
@click.option(
    "--batch-size", type=click.IntRange(0), default=0, help="0: 128, for small images 512."
)
@click.option(
    "--input",
    "inputs",
    default="streaming,resident,small",
    show_default=True,
    help="Which races to run.",
)
@click.option(
    "--jitter",
    type=click.Choice(["both", "with", "without"]),
    default=None,
    help="With color jitter? [both; --quick: without]",
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float16", "bfloat16"]),
    default="float32",
    show_default=True,
)
@device_option
@peers_option
@click.option(
    "--require",
    is_flag=True,
    help="Exit 1 where we are below the multiples of ffcv that are promised.",
)
@quick_option
@out_option
def loaders(
    data: tuple[Path, ...],
    batch_size: int,
    inputs: str,
    jitter: str | None,
    dtype: str,
    device: str,
    peers: str | None,
    require: bool,
    quick: bool,
    out: Path | None,
) -> None:
    """Race our executors and the peers on the images of the dataset folders DATA.

    A JPEG dataset is raced as it is (streaming) and as a raw copy of at most 256 px (resident); a
    raw dataset of small images as CIFAR-10 is trained (small).

    \b
    Example: bench loaders data/caltech101 data/cifar10 --require
    """
    from slipform.bench.result.environment import stamp
    from slipform.bench.suites import loaders as suite

    chosen = [name.strip() for name in inputs.split(",")]
    check_names("--input", chosen, suite.EXECUTORS)
    named = suite.chosen_peers(peers or ("ffcv,torch,dali" if quick else "all"))
    if quick and "--input" not in typed():
        chosen = ["streaming", "small"]
    environment = stamp()
    jitters = {"both": (False, True), "with": (True,), "without": (False,)}[
        jitter or ("without" if quick else "both")
    ]
    conditions = suite.Conditions(
        environment.cores, batch_size, device_name(device), dtype, tuple(chosen), jitters
    )
    rows = suite.run(data, conditions, named, _effort(quick), _say)
    _finish("loaders", rows, out, environment)
    if require and (lacking := suite.shortfalls(rows)):
        raise SlipformError("below what is required:\n  " + "\n  ".join(lacking))


@click.command(cls=Command)
@click.option(
    "--data",
    "folders",
    required=True,
    multiple=True,
    type=click.Path(path_type=Path),
    help="A dataset folder. May be repeated.",
)
@click.option(
    "--models",
    default=None,
    help="[alexnet,resnet18,resnet34,resnet50,vgg16,tiny,cnn; small images: tiny,cnn,fast]",
)
@click.option("--batch-sizes", default=None, help="[16,64; on a GPU 32 to 1024; --quick: 16]")
@click.option(
    "--precision", default="auto", show_default=True, help="Some of auto, fp32, bf16, fp16."
)
@click.option(
    "--compile",
    "compiling",
    default="auto",
    show_default=True,
    help="Some of auto, on, off, graphs.",
)
@click.option("--loader", default="auto", show_default=True, help="auto, dali, host or resident.")
@device_option
@click.option(
    "--no-peer", is_flag=True, help="Do not feed the step from a torch DataLoader as well."
)
@quick_option
@out_option
def train(
    folders: tuple[Path, ...],
    models: str | None,
    batch_sizes: str | None,
    precision: str,
    compiling: str,
    loader: str,
    device: str,
    no_peer: bool,
    quick: bool,
    out: Path | None,
) -> None:
    """Measure training: the step alone, the loader alone, both, and memory; each point in a process
    of its own.

    \b
    Example: bench train --data data/caltech101 --models alexnet,resnet18 --batch-sizes 16,64
    """
    from slipform.bench.race.work import is_small
    from slipform.bench.result.environment import stamp
    from slipform.bench.suites import train as suite
    from slipform.models.registry import ModelConfig, find

    precisions, compiles = precision.split(","), compiling.split(",")
    check_names("--precision", precisions, ("auto", "fp32", "bf16", "fp16"))
    check_names("--compile", compiles, ("auto", "on", "off", "graphs"))
    check_names("--loader", [loader], ("auto", "dali", "host", "resident"))
    device = device_name(device)
    sizes = numbers(
        batch_sizes
        or ("16" if quick else "16,64" if device == "cpu" else "32,64,128,256,512,1024"),
        "--batch-sizes",
    )
    large = "alexnet,resnet18" if quick else ",".join(suite.MODELS)
    names = {
        data: (models or (",".join(suite.SMALL_MODELS) if is_small(data) else large)).split(",")
        for data in folders
    }
    for name in itertools.chain(*names.values()):
        find(ModelConfig(name=name))
    environment = stamp()
    points = [
        suite.Point(
            str(data), name, size, number, mode, loader, device, environment.cores, not no_peer
        )
        for data in folders
        for name in names[data]
        for size in sizes
        for number in precisions
        for mode in compiles
    ]
    rows = suite.run(points, suite.QUICK if quick else suite.FULL, _say)
    _finish("train", rows, out, environment)
    if all(row.status != "ok" for row in rows):
        raise SlipformError("no point could be measured")


@click.command(cls=Command)
@data_arguments
@click.option(
    "--workers",
    type=click.IntRange(0),
    default=0,
    help="Threads of ours, processes of ffcv; 0: one for each core.",
)
@click.option("--no-peer", is_flag=True, help="Without ffcv.")
@click.option(
    "--require",
    is_flag=True,
    help="Exit 1 where we are below the multiples of ffcv that are promised.",
)
@quick_option
@out_option
def prep(
    data: tuple[Path, ...],
    workers: int,
    no_peer: bool,
    require: bool,
    quick: bool,
    out: Path | None,
) -> None:
    """Write the images of the dataset folders DATA again, with our writer and with ffcv's.

    \b
    Example: bench prep data/caltech101 data/cifar10 --require
    """
    from slipform.bench.result.environment import stamp
    from slipform.bench.suites import prep as suite

    environment = stamp()
    effort = suite.QUICK if quick else suite.FULL
    rows = [
        row
        for folder in data
        for row in suite.run(folder, workers or environment.cores, not no_peer, effort, _say)
    ]
    _finish("prep", rows, out, environment)
    if require and (lacking := suite.shortfalls(rows)):
        raise SlipformError("below what is required:\n  " + "\n  ".join(lacking))


@click.command(cls=Command)
@data_argument
@click.option("--recipe", default="", help="As for train. [the dataset's defaults]")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="As for train.")
@click.option(
    "--target",
    type=click.FloatRange(0, 1),
    default=0.94,
    show_default=True,
    help="Accuracy of val or test to reach.",
)
@click.option(
    "--seeds",
    type=click.IntRange(1),
    default=None,
    help="Runs, each with a seed of its own. [5; --quick: 2]",
)
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    help="A speed run to time as well: airbench94_muon.py, on a GPU.",
)
@device_option
@quick_option
@out_option
def accuracy(
    data: Path,
    recipe: str,
    sets: tuple[str, ...],
    target: float,
    seeds: int | None,
    against: Path | None,
    device: str,
    quick: bool,
    out: Path | None,
) -> None:
    """Train to a given accuracy, several times, and say how many seconds it took.

    \b
    Examples: bench accuracy data/cifar10 --recipe cifar10/fast --target 0.94 --seeds 20
              bench accuracy data/cifar10-all --recipe cifar10/fast --seeds 20 --against
              airbench94_muon.py
    """
    from slipform.bench.race import speed_run
    from slipform.bench.result.environment import stamp
    from slipform.bench.suites import epoch_to_accuracy as suite
    from slipform.train.config.resolve import load_recipe

    if recipe:
        load_recipe(recipe)
    if against:
        speed_run.check(against, data)
    environment = stamp()
    seeds, device = seeds or (2 if quick else 5), device_name(device)
    rows = [suite.run(data, recipe, sets, seeds, target, device, _say)]
    if against:
        rows.append(speed_run.run(against, data, seeds, target, device, _say))
    _finish("accuracy", rows, out, environment)
    if rows[0].status != "ok":
        raise SlipformError(f"{rows[0].status}: {rows[0].note}")


@click.command(cls=Command)
@data_argument
@click.option(
    "--seconds",
    type=click.IntRange(1),
    default=180,
    show_default=True,
    help="No further choice is tried after this time.",
)
@click.option(
    "--profile",
    type=click.Path(path_type=Path),
    help="Where to keep the finding. [~/.cache/slipform/tune.json]",
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float16", "bfloat16"]),
    default="float32",
    show_default=True,
)
@device_option
@quick_option
@out_option
def tune(
    data: Path,
    seconds: int,
    profile: Path | None,
    dtype: str,
    device: str,
    quick: bool,
    out: Path | None,
) -> None:
    """Find the loader's best settings for the dataset folder DATA on this machine and keep them for
    executor = "auto".

    \b
    Example: bench tune data/caltech101
    """
    from slipform.bench import tune as tuning
    from slipform.bench.race.work import usual_work
    from slipform.bench.result.environment import stamp
    from slipform.pipelines.profile import profile_key, profile_path, write_profile

    environment = stamp()
    work = usual_work(
        data, batch_size=0, cores=environment.cores, device=device_name(device), dtype=dtype
    )
    best, rows = tuning.tune(work, seconds, tuning.QUICK if quick else tuning.EFFORT, _say)
    _finish("tune", rows, out, environment)
    if all(row.status != "ok" for row in rows):
        raise SlipformError("no setting could be measured, so no profile was written")
    path = profile or profile_path()
    key = profile_key(work.stored, work.augment.image_size, work.device)
    write_profile(path, key, {**best, "date": environment.date, "commit": environment.commit})
    click.echo(
        f"best: {', '.join(f'{name} = {value}' for name, value in best.items())}; kept in {path}"
    )
