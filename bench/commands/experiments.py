"""Write the page about the reports' experiments."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from slipform.bench.suites import say
from slipform.pipelines.command import Command
from slipform.pipelines.errors import SlipformError

__all__ = ["command"]

FOLDER = Path(__file__).resolve().parents[1] / "results" / "experiments"


@click.command(cls=Command)
@click.argument("folder", default=FOLDER, type=click.Path(path_type=Path, exists=True))
@click.option(
    "--train",
    "which",
    type=click.Choice(["missing", "waiting"]),
    help="First train all runs that have no result, or those of them that need ImageNet weights.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    default=Path("data"),
    show_default=True,
    help="With --train and --untrained: a folder with dataset folders.",
)
@click.option(
    "--runs",
    type=click.Path(path_type=Path),
    default=Path("runs/experiments"),
    show_default=True,
    help="With --train: the folder for the runs.",
)
@click.option(
    "--untrained",
    is_flag=True,
    help="First measure what needs no training: parameters of every net, and the first losses of"
    " runs that report one, on the datasets in --data.",
)
@click.option("--seeds", default=1, type=click.IntRange(1), help="With --train: seeds of each run.")
@click.option("--jobs", default=1, type=click.IntRange(1), help="With --train: runs at a time.")
def command(
    folder: Path,
    which: Literal["missing", "waiting"] | None,
    data: Path,
    runs: Path,
    untrained: bool,
    seeds: int,
    jobs: int,
) -> None:
    """Write README.md and reported.svg into FOLDER (default: bench/results/experiments).

    FOLDER has a folder for each sweep, with the tables that `train --all` wrote; checks.toml, the
    checks of the reports' conclusions; untrained.csv, which --untrained writes; and figures.

    --train runs all sweeps first. It takes hours. The same command again continues.

    \b
    Examples: bench experiments
              bench experiments --untrained --data data
              bench experiments --train waiting --data data
    """
    from slipform.bench.experiments.page import write_page
    from slipform.bench.experiments.training import train_studies
    from slipform.bench.experiments.untrained import measure_untrained

    problems = []
    if untrained:
        click.echo(f"written to {measure_untrained(folder, data, say)}")
    if which is not None:
        problems = train_studies(folder, data, runs, which, say, seeds=seeds, jobs=jobs)
    click.echo(f"written to {write_page(folder)}")
    if problems:
        raise SlipformError("not everything was trained:\n  " + "\n  ".join(problems))
