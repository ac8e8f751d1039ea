"""The output of `validate --suspects`: images that are mislabeled, never learned or forgotten.

In: a model and its run. Out: a CSV file and sheets of images; lines for the terminal or JSON.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import click

from slipform.pipelines.errors import printable
from slipform.train.commands.json_text import json_text
from slipform.train.figures.draw import FOLDER
from slipform.train.inference.classifier import Classifier
from slipform.train.inference.suspects import (
    KINDS,
    draw_suspects,
    suspects_of,
    table,
    write_csv,
)

__all__ = ["show_suspects"]

_LISTED = 10
_FEW = 3  # epochs
_MANY = 0.25  # of the training images


def show_suspects(
    classifier: Classifier, data: Path | None, out: Path | None, as_json: bool
) -> None:
    """Find, draw and list the suspects of a run.

    Args:
        classifier: The model of its best epoch.
        data: The dataset folder, if it was moved.
        out: The folder of the files. Default: figures/ in the run folder.
        as_json: Print one JSON object.

    Raises:
        SlipformError: See `suspects_of`.
    """
    found, out = suspects_of(classifier, data), out or classifier.folder / FOLDER
    for text in found.history.missing:
        click.echo(printable(text), err=True)
    epochs = len(found.history.epochs)
    if epochs < _FEW:
        click.echo(f"only {epochs} epochs are recorded: the rankings are not reliable", err=True)
    called = len(found.ranking("mislabeled"))
    if called > _MANY * len(found.labels):
        click.echo(
            f"{called:,} of {len(found.labels):,} labels would be wrong: if they are not, the model"
            " has learned too little for a ranking, and more epochs help",
            err=True,
        )
    for path in (write_csv(found, out), *draw_suspects(classifier, found, data, out)):
        click.echo(printable(str(path)), err=True)
    if as_json:
        counts = {kind: len(found.ranking(kind)) for kind in KINDS}
        values = {"images": len(found.labels), "epochs": epochs, **counts}
        click.echo(json_text({**values, "suspects": list(table(found))}))
        return
    for row in itertools.islice(table(found), _LISTED):
        if row["mislabeled"]:
            text = (
                f"{row['mislabeled']:>3}. {row['name'] or row['index']}: label {row['label']},"
                f" suggestion {row['suggestion']} ({row['suggestion_probability']}); right in"
                f" {row['epochs_right']} of {row['epochs_seen']} epochs"
            )
            click.echo(printable(text))
    total = f"{len(found.labels):,} training images, {epochs} epochs"
    parts = (f"{len(found.ranking(kind)):,} {words}" for kind, words in KINDS.items())
    click.echo(f"{total}: {', '.join(parts)}")
