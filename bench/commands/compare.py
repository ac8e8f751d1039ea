"""Compare two results; the exit code is 1 if the second is worse."""

from __future__ import annotations

from pathlib import Path

import click

from slipform.pipelines.command import Command
from slipform.pipelines.errors import SlipformError

__all__ = ["command"]


@click.command(cls=Command)
@click.argument("before", metavar="A", type=click.Path(path_type=Path))
@click.argument("after", metavar="B", type=click.Path(path_type=Path))
@click.option(
    "--tolerance",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="The share by which a number may be worse, beyond its interval.",
)
@click.option(
    "--all", "everything", is_flag=True, help="Also show numbers that stayed within their interval."
)
def command(before: Path, after: Path, tolerance: float, everything: bool) -> None:
    """Compare the results A and B. The exit code is 1 if B is worse beyond the intervals of both.

    \b
    Example: bench compare bench/results/laptop-loaders.json new.json
    """
    from slipform.bench.result import compare as comparing
    from slipform.bench.result.result import read_result

    a, b = read_result(before), read_result(after)
    found = comparing.changes(a, b, tolerance)
    gone = comparing.lost(a, b)
    worse = [change for change in found if change.worse]
    shown = found if everything else [change for change in found if change.worse or change.better]
    click.echo(comparing.same_conditions(a, b))
    if shown:
        click.echo("\n" + comparing.text(shown) + "\n")
    for row, why in gone:
        click.echo(f"LOST: {', '.join(row.key[1:])}: {why}")
    for row in comparing.unmatched(a, b):
        click.echo(f"not measured in B: {', '.join(row.key[1:])}")
    click.echo(
        f"{len(found)} numbers compared: {len(worse)} worse,"
        f" {sum(change.better for change in found)} better"
    )
    if worse or gone:
        raise SlipformError(f"{after} is worse than {before} in {len(worse) + len(gone)} places")
