"""The command `search`: the settings with the highest accuracy on val.

In: a command line. Out: a run folder for each trial, tables, a figure.
"""

from __future__ import annotations

import os
from pathlib import Path

import click

from slipform.pipelines.errors import printable
from slipform.train.commands.options import DATASET, FOLDER, SettingsCommand, device_option
from slipform.train.search.pruning import PRUNERS

__all__ = ["search"]


@click.command(cls=SettingsCommand)
@click.argument("data", type=DATASET)
@click.option("--recipe", metavar="NAME|FILE", help="As for train. [default: settings for DATA]")
@click.option(
    "--range",
    "ranges",
    metavar="A.B=LOW..HIGH|A.B=C,D",
    multiple=True,
    help="A setting to vary: LOW..HIGH, LOW..HIGH:log, or choices. Can be repeated.",
)
@click.option("--set", "sets", metavar="A.B=C", multiple=True, help="As for train, for all trials.")
@click.option(
    "--trials",
    type=click.IntRange(1),
    default=20,
    show_default=True,
    help="Number of trials, with those of earlier commands.",
)
@click.option(
    "--jobs", type=click.IntRange(1), default=1, show_default=True, help="Trials at a time."
)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the proposals."
)
@click.option(
    "--prune",
    type=click.Choice(PRUNERS),
    default="none",
    show_default=True,
    help="End trials that are worse than others at the same epoch.",
)
@click.option("--out", type=FOLDER, help="The folder of the search. [default: runs/search]")
@device_option
@click.option("--quiet", is_flag=True, help="Print the result only.")
def search(
    data: Path | str,
    recipe: str | None,
    ranges: tuple[str, ...],
    sets: tuple[str, ...],
    trials: int,
    jobs: int,
    seed: int,
    prune: str,
    out: Path | None,
    device: str,
    quiet: bool,
) -> None:
    """Search for settings with Optuna: many runs on DATA; the accuracy on val chooses.

    Each run, called a trial, is a folder below --out, beside trials.md, trials.csv and trials.png.
    The same command again continues the search; with more --trials it goes on.

    \b
    Example: slipform search data/shapes --recipe shapes/demo --trials 30
             --range optimizer.lr=1e-3..1:log --range loss.label_smoothing=0.0..0.2
             --prune median
    """
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise click.UsageError("search starts its own processes: run it without torchrun.")
    from slipform.pipelines.mirror.folder import local_folder
    from slipform.train.config.recipe import load_one
    from slipform.train.search.space import parse_ranges
    from slipform.train.search.study import run_search

    loaded, run = load_one(recipe) if recipe else (None, None)
    table = run_search(
        loaded, local_folder(data), out or Path("runs/search"), parse_ranges(ranges), sets,
        run=run, trials=trials, num_at_once=jobs, seed=seed, prune=prune,
        device=device, quiet=quiet,
    )  # fmt: skip
    click.echo(table.read_text(encoding="utf-8"))
    click.echo(f"table: {printable(str(table))}")
