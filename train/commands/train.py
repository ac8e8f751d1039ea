"""The command `train`: one run, or all runs of a sweep.

In: a command line. Out: run folders, tables. Several processes:
torchrun --nproc-per-node N --no-python slipform train DATA ...
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slipform.pipelines.errors import printable
from slipform.train.commands.options import (
    DATASET,
    FOLDER,
    SettingsCommand,
    device_option,
    is_main,
)

if TYPE_CHECKING:
    from slipform.train.sweep.jobs import Repeats

__all__ = ["train"]


@click.command(cls=SettingsCommand)
@click.argument("data", type=DATASET, required=False)
@click.option(
    "--recipe",
    metavar="NAME|FILE",
    help=(
        "The name of a recipe, such as shapes/demo, or a TOML file. NAME:RUN is one run of a sweep;"
        " NAME:RUN,RUN selects runs for --all. Names: slipform list recipes. [default: settings for"
        " the dataset]"
    ),
)
@click.option(
    "--set",
    "sets",
    metavar="A.B=C",
    multiple=True,
    help=(
        "Change a setting, such as train.epochs=1. Can be repeated. Names: slipform list settings,"
        " slipform list nets."
    ),
)
@click.option(
    "--teacher",
    type=FOLDER,
    metavar="RUN",
    help=(
        "Also learn from the answers of the model in this run folder. Settings: slipform list"
        " settings distill."
    ),
)
@click.option("--out", type=FOLDER, help="The run folder. [default: a new one below runs/]")
@click.option("--resume", type=FOLDER, metavar="RUN", help="Continue the run in this folder.")
@click.option(
    "--auto-resume",
    is_flag=True,
    help=(
        "Continue the run in --out if there is one, otherwise begin it: for a command that a"
        " scheduler, or torchrun --max-restarts, runs again."
    ),
)
@click.option("--overwrite", is_flag=True, help="Replace a run that is in the folder already.")
@click.option(
    "--other-data",
    is_flag=True,
    help="With --resume: continue even if DATA is not the dataset of the run.",
)
@click.option(
    "--all",
    "every",
    is_flag=True,
    help="Run all runs of a sweep, and write a table. The same command again does what is left.",
)
@click.option(
    "--jobs",
    type=click.IntRange(1),
    metavar="N",
    help="With --all: number of runs at a time. [default: 1]",
)
@click.option(
    "--seeds",
    type=click.IntRange(1),
    metavar="K",
    help="With --all: number of seeds of every run. [default: 1]",
)
@click.option(
    "--folds",
    type=click.IntRange(2),
    metavar="K",
    help=(
        "With --all: run each run on K folds of train and val, and write mean and deviation; see"
        " data.fold."
    ),
)
@device_option
@click.option("--quiet", is_flag=True, help="Print the result only.")
def train(
    data: Path | str | None,
    recipe: str | None,
    sets: tuple[str, ...],
    teacher: Path | None,
    out: Path | None,
    resume: Path | None,
    auto_resume: bool,
    overwrite: bool,
    other_data: bool,
    every: bool,
    jobs: int | None,
    seeds: int | None,
    folds: int | None,
    device: str,
    quiet: bool,
) -> None:
    """Train a model on the dataset folder DATA, or all runs of a sweep.

    prep wrote DATA; it may be a URL (s3://, gs://, az://, https://). Settings come from a recipe
    and --set. The run folder gets the settings, checkpoints, the best weights, the results and
    figures. Ctrl-C ends the run with a checkpoint; --resume continues it.

    \b
    Examples:
      train data/caltech101 --recipe caltech101/alexnet-scratch --out runs/first
      train s3://bucket/caltech101 --recipe caltech101/alexnet-scratch --out runs/remote
      train --resume runs/first
      train data/cifar10 --recipe cifar10/fast --out runs/fast --auto-resume
      train data/mnist --recipe mnist/convolutional --all --out runs/mnist
      train data/shapes --recipe shapes/demo --all --folds 5 --out runs/folds
      train data/cifar10 --recipe cifar10/fast --teacher runs/large --out runs/student
    """
    from slipform.train.machine.waiting import sleep_on_a_busy_machine

    # Before torch is imported. Each run of a sweep looks for itself.
    on_cores = not every and not device.startswith("cuda")
    if on_cores and (note := sleep_on_a_busy_machine()) and not quiet:
        click.echo(f"note: {note}", err=True)
    from slipform.pipelines.manifest import read_manifest
    from slipform.pipelines.mirror.folder import local_folder
    from slipform.pipelines.plan.unread import unread_settings
    from slipform.pipelines.toml_text import value_text
    from slipform.train.config.recipe import load_one
    from slipform.train.config.resolve import defaults_note, resolve
    from slipform.train.machine.distributed import restarts
    from slipform.train.run.folder import check, new_folder, resumed_recipe
    from slipform.train.run.identity import dataset_folder
    from slipform.train.run.unchanged import continued

    data = None if data is None else local_folder(data)
    if teacher is not None:
        sets = (*sets, f"distill.teacher={value_text(str(teacher))}")
    if every:
        if data is None or resume is not None or auto_resume:
            raise click.UsageError(
                "--all needs DATA, and cannot be used with --resume or --auto-resume: the same"
                " command again continues the sweep."
            )
        from slipform.train.sweep.jobs import Repeats

        repeats = Repeats(seeds or 1, folds or 0)
        if recipe is None and not repeats:
            raise click.UsageError("--all needs the --recipe of a sweep, or --seeds or --folds.")
        _sweep(data, recipe, sets, out, overwrite, jobs or 1, repeats, device, quiet)
        return
    if other_data and resume is None:
        raise click.UsageError("--other-data needs --resume.")
    if jobs or seeds or folds:
        raise click.UsageError("--jobs, --seeds and --folds need --all.")
    if auto_resume and (data is None or out is None or resume or overwrite):
        raise click.UsageError(
            "--auto-resume needs DATA and --out, and cannot be used with --resume or --overwrite:"
            " it continues the run in the folder --out, or begins it there."
        )
    if not auto_resume and resume is None and restarts():
        raise click.UsageError(
            "torchrun --max-restarts runs this command again after a failure: give --out RUN and"
            " --auto-resume, so that the run then continues."
        )
    continues = resume is not None
    if resume is not None:
        if recipe or out or overwrite:
            raise click.UsageError(
                "--resume continues the run in its folder: remove --recipe, --out and --overwrite."
            )
        config = resolve(resumed_recipe(resume, lambda text: click.echo(text, err=True)), sets)
        data = data or dataset_folder(config)
        folder: AbstractContextManager[Path] = nullcontext(resume)
    elif data is None:
        raise click.UsageError(
            "Missing argument 'DATA': a folder that prep wrote, or its URL (or give --resume RUN)."
        )
    else:
        manifest = read_manifest(data)
        loaded, run = load_one(recipe) if recipe else (None, None)
        config = resolve(loaded, sets, manifest, run)
        if out is not None and auto_resume:
            before = continued(out, config, manifest)
            continues, config = before is not None, before or config
        if out is not None and is_main():
            with ExitStack() as held:  # refused before it says anything else
                check(out, held, resume=continues, overwrite=overwrite)
        name = _run_name(recipe or f"{manifest.dataset}-{config.model.name}")
        if out is None and is_main():
            folder = new_folder(Path("runs"), name)
        else:
            folder = nullcontext(out or Path("runs"))  # the other processes take the main one's
        if loaded is None and not quiet:
            click.echo(defaults_note(config, manifest), err=True)
        for line in unread_settings(config.augment) if is_main() and not quiet else ():
            click.echo(f"note: {line}", err=True)
        from slipform.train.sweep.sweep import data_differences

        if loaded and (different := data_differences(loaded, manifest)):
            click.echo(different, err=True)

    from slipform.train.machine.interrupt import end_with_parent
    from slipform.train.run.loop import fit

    end_with_parent()
    with folder as out:
        summary = fit(
            config,
            data,
            out,
            device=device,
            resume=continues,
            overwrite=overwrite,
            other_data=other_data,
            quiet=quiet,
        )
    if not is_main():
        return
    from slipform.train.commands.train_result import next_lines, result_lines

    click.echo("\n".join(result_lines(summary, out)))
    if not quiet:
        click.echo("\n".join(next_lines(summary, out)))


def _sweep(
    data: Path,
    recipe: str | None,
    sets: tuple[str, ...],
    out: Path | None,
    overwrite: bool,
    num_at_once: int,
    repeats: Repeats,
    device: str,
    quiet: bool,
) -> None:
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise click.UsageError(
            "--all starts its own processes: run it without torchrun, with --jobs N."
        )
    from slipform.pipelines.manifest import read_manifest
    from slipform.train.config.recipe import Recipe, SweepRun, load_runs
    from slipform.train.config.resolve import dataset_defaults, defaults_note, resolve
    from slipform.train.sweep.sweep import run_sweep

    only: tuple[SweepRun, ...] = ()
    if recipe is not None:
        loaded, only = load_runs(recipe)
        name = _run_name(loaded.name)
    else:
        manifest = read_manifest(data)
        config = resolve(None, sets, manifest)
        loaded, name = Recipe("", dataset_defaults(manifest)), f"{manifest.dataset}-all"
        if not quiet:
            click.echo(defaults_note(config, manifest), err=True)
    table = run_sweep(
        loaded,
        data,
        out or Path("runs") / name,
        sets,
        only=only,
        num_at_once=num_at_once,
        repeats=repeats,
        device=device,
        overwrite=overwrite,
        quiet=quiet,
    )
    click.echo(table.read_text(encoding="utf-8"))
    click.echo(f"table: {printable(str(table))}")


def _run_name(recipe: str) -> str:
    return recipe.removesuffix(".toml").strip("/").replace("/", "-").replace(":", "-")
