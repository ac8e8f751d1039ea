"""The command `validate`: the accuracy of a run on a split.

In: a command line. Out: a table or a JSON object, and figures with --figures.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from slipform.pipelines.errors import Command, printable
from slipform.train.commands.options import FOLDER, device_option

__all__ = ["validate"]


@click.command(cls=Command)
@click.argument("run", type=FOLDER)
@click.argument("data", type=FOLDER, required=False)
@click.option("--split", default="test", show_default=True, help="train, val or test.")
@click.option(
    "--figures",
    type=FOLDER,
    metavar="DIR",
    help="Draw curves, accuracy per class, confusion matrix and first layer into this folder.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@device_option
def validate(
    run: Path, data: Path | None, split: str, figures: Path | None, as_json: bool, device: str
) -> None:
    """Measure the accuracy of the best epoch of RUN on a split of DATA.

    DATA is a dataset folder. It may have some of the run's classes, in any order. Default: the
    dataset of the run.
    """
    from slipform.train.inference.classifier import Classifier

    classifier = Classifier.load(run, device)
    result = classifier.evaluate(data, split)
    for note in classifier.data_notes(data, split):
        click.echo(printable(note), err=True)
    if figures is not None:
        from slipform.train.figures import curves
        from slipform.train.figures.result import draw_result
        from slipform.train.run.folder import locked_if_run

        with classifier.open_split(data, split) as loader:
            image = next(iter(loader)).images[:1].clone()
        with locked_if_run(figures, "*.png"):
            curves.draw_run(run, figures)
            draw_result(figures, classifier.model, image, result, classifier.classes)
        click.echo(f"figures: {printable(str(figures))}", err=True)
    values: dict[str, Any] = {
        "split": split,
        "images": result.num_images,
        "top1": result.top1,
        "top5": result.top5,
        "loss": result.loss,
    }
    per_class = dict(zip(classifier.classes, result.per_class, strict=True))
    if as_json:
        # JSON has no nan; nan is not equal to itself.
        clean = {name: None if share != share else share for name, share in per_class.items()}
        click.echo(json.dumps({**values, "per_class": clean}))
        return
    shown = {printable(name): share for name, share in per_class.items()}
    width = max(map(len, shown))
    for name, share in shown.items():
        click.echo(
            f"{name:<{width}}  {share:6.4f}" if share == share else f"{name:<{width}}  no images"
        )
    click.echo(
        f"{split}: top-1 {result.top1:.4f}, top-5 {result.top5:.4f}, loss {result.loss:.4f},"
        f" {result.num_images} images"
    )
