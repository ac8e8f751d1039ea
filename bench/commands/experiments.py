"""Write the page about the reports' experiments."""

from __future__ import annotations

from pathlib import Path

import click

from slipform.pipelines.errors import Command

__all__ = ["command"]

FOLDER = Path(__file__).resolve().parents[1] / "results" / "experiments"


@click.command(cls=Command)
@click.argument("folder", default=FOLDER, type=click.Path(path_type=Path, exists=True))
def command(folder: Path) -> None:
    """Write README.md and reported.svg into FOLDER (default: bench/results/experiments).

    FOLDER has a folder for each sweep, with the table.md and table.csv that `train --all` wrote;
    checks.toml, the checks of the reports' conclusions; and differences.md.

    \b
    Example: bench experiments
    """
    from slipform.bench.experiments.page import write_page

    click.echo(f"written to {write_page(folder)}")
