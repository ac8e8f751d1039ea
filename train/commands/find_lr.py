"""The command `find-lr`: a learning rate for a run.

In: a command line. Out: a suggestion, and a figure with --figure.
"""

from __future__ import annotations

from pathlib import Path

import click

from slipform.pipelines.errors import printable
from slipform.train.commands.options import DATASET, SettingsCommand, device_option

__all__ = ["find_lr"]


@click.command("find-lr", cls=SettingsCommand)
@click.argument("data", type=DATASET)
@click.option("--recipe", metavar="NAME|FILE", help="As for train. [default: settings for DATA]")
@click.option("--set", "sets", metavar="A.B=C", multiple=True, help="As for train.")
@click.option("--low", default=1e-7, show_default=True, help="The first learning rate.")
@click.option("--high", default=10.0, show_default=True, help="The last learning rate.")
@click.option("--steps", default=100, show_default=True, help="Steps between them.")
@click.option(
    "--figure",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw the losses as a PNG file.",
)
@device_option
def find_lr(
    data: Path | str,
    recipe: str | None,
    sets: tuple[str, ...],
    low: float,
    high: float,
    steps: int,
    figure: Path | None,
    device: str,
) -> None:
    """Suggest optimizer.lr for a run on DATA, by steps whose learning rate rises.

    The steps train a model of their own: nothing of a run is read or written. The suggestion is the
    largest learning rate of the run; the schedule lowers it as usual.

    \b
    Example: slipform find-lr data/shapes --recipe shapes/demo --figure rates.png
    """
    from slipform.pipelines.manifest import read_manifest
    from slipform.pipelines.mirror.folder import local_folder
    from slipform.train.config.recipe import load_one
    from slipform.train.config.resolve import resolve
    from slipform.train.search.rate import find_rate

    data = local_folder(data)
    loaded, run = load_one(recipe) if recipe else (None, None)
    config = resolve(loaded, sets, read_manifest(data), run)
    found = find_rate(
        config, data, device=device, low=low, high=high, steps=steps,
        say=lambda text: click.echo(text, err=True),
    )  # fmt: skip
    if figure is not None:
        from slipform.train.figures.draw import save
        from slipform.train.figures.search import rate_figure

        drawn = rate_figure(found.rates, found.losses, found.smoothed, found.suggestion)
        save(drawn, figure.parent, figure.name)
        click.echo(f"figure: {printable(str(figure))}", err=True)
    click.echo(
        f"{len(found.rates)} steps, learning rates {found.rates[0]:.2g} to {found.rates[-1]:.2g};"
        f" the loss falls fastest at {found.steepest:.2g}"
    )
    click.echo(f"--set optimizer.lr={found.suggestion:.2g}")
