"""The command `predict`: the most probable classes of image files.

In: a command line. Out: a line, or a JSON object, for each image.
"""

from __future__ import annotations

from pathlib import Path

import click

from slipform.pipelines.command import Command
from slipform.pipelines.errors import printable
from slipform.train.commands.json_text import json_text
from slipform.train.commands.options import FOLDER, device_option

__all__ = ["predict"]


@click.command(cls=Command)
@click.argument("run", type=FOLDER)
@click.argument(
    "paths",
    type=click.Path(exists=True, path_type=Path),
    nargs=-1,
    required=True,
    metavar="IMAGE|FOLDER...",
)
@click.option(
    "--top",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="Number of classes for each image. Labels that reach their threshold are also shown.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each image.")
@device_option
def predict(run: Path, paths: tuple[Path, ...], top: int, as_json: bool, device: str) -> None:
    """Classify images with the best epoch of RUN: the most probable classes of each image.

    Folders are searched for images at any depth. If images have several labels, * marks a class
    whose probability reaches its threshold. All of these are shown, before other classes.

    \b
    Examples: predict runs/first photo.jpg
              predict runs/first photos --top 1 --json
    """
    from slipform.pipelines.errors import SlipformError
    from slipform.train.inference.classifier import Classifier
    from slipform.train.inference.predict import find_images
    from slipform.train.machine.allocator import keep_from_now_on

    keep_from_now_on()
    classifier = Classifier.load(run, device)
    files = find_images(paths)
    failed = 0
    # With several labels, more classes than `top` may reach their threshold.
    count = top if classifier.thresholds is None else max(top, len(classifier.classes))
    for prediction in classifier.predictions(files, count):
        if prediction.error:
            failed += 1
            click.echo(printable(f"{prediction.path}: {prediction.error}"), err=True)
        elif as_json:
            classes = [
                {"class": name, "probability": share} for name, share in prediction.classes[:top]
            ]
            values = {"file": str(prediction.path), "classes": classes}
            several = {} if classifier.thresholds is None else {"labels": prediction.labels}
            click.echo(json_text(values | several))
        else:
            labels = set(prediction.labels)
            # The sort keeps the order of the probabilities among labels, and among others.
            found = sorted(prediction.classes, key=lambda one: one[0] not in labels)
            shares = (
                f"{printable(name)}{'*' * (name in labels)} {share:.3f}"
                for name, share in found[: max(top, len(labels))]
            )
            click.echo("  ".join((printable(str(prediction.path)), *shares)))
    if failed:
        raise SlipformError(f"{failed} of {len(files)} files could not be read as images")
