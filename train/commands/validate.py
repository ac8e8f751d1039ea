"""The command `validate`: how good the model of a run is on a split.

In: a command line. Out: a table or a JSON object; figures with --figures, a page with --report.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from slipform.pipelines.command import Command
from slipform.pipelines.errors import SlipformError, printable
from slipform.train.commands.json_text import json_text
from slipform.train.commands.options import DATASET, FOLDER, device_option

if TYPE_CHECKING:
    from slipform.train.page.parts import Replayed
    from slipform.train.scores.judgment import Judgment

__all__ = ["validate"]


@click.command(cls=Command)
@click.argument("run", type=FOLDER)
@click.argument("data", type=DATASET, required=False)
@click.option("--split", help="train, val or test. [default: test, or val without test]")
@click.option(
    "--figures",
    type=FOLDER,
    metavar="DIR",
    help="Draw curves, classes, confusion, reliability, highest losses and more into this folder.",
)
@click.option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write one HTML page with all figures and pictures.",
)
@click.option(
    "--suspects",
    is_flag=True,
    help="Find training images that are mislabeled, never learned or forgotten, with the"
    " observations of a run with records.samples. Writes suspects.csv and sheets of images to"
    " --figures, or to figures/ in RUN.",
)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the intervals."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@device_option
def validate(
    run: Path,
    data: Path | str | None,
    split: str | None,
    figures: Path | None,
    report: Path | None,
    suspects: bool,
    seed: int,
    as_json: bool,
    device: str,
) -> None:
    """Measure the best epoch of RUN on a split of DATA: accuracy, F1, AUROC, calibration.

    DATA is a dataset folder or its URL; it may have some of the run's classes, in any order.
    Without it, the dataset of the run is used. Every figure has a 95 % interval. Images with
    several labels have mAP instead of the accuracy.

    \b
    Examples: validate runs/first --split val --report first.html
              validate runs/first --suspects
    """
    from slipform.pipelines.mirror.folder import local_folder
    from slipform.train.inference.classifier import Classifier
    from slipform.train.inference.data import first_split
    from slipform.train.inference.judge import judge_any
    from slipform.train.machine.allocator import keep_from_now_on
    from slipform.train.scores.label_judgment import LabelJudgment

    if suspects and (report is not None or split not in (None, "train")):
        raise click.UsageError("--suspects is for the training images: remove --report and --split")
    data = None if data is None else local_folder(data)
    keep_from_now_on()
    classifier = Classifier.load(run, device)
    if suspects:
        from slipform.train.commands.validate_suspects import show_suspects

        show_suspects(classifier, data, figures, as_json)
        return
    split = split or first_split(classifier.settings_for(data)) or "test"
    judged = judge_any(classifier, data, split, seed)
    notes = classifier.data_notes(data, split)
    for note in notes:
        click.echo(printable(note), err=True)
    if figures is not None or report is not None:
        from slipform.train.inference.showing import draw_figures, pictures, write_report

        shown = pictures(classifier, judged, data)
        for text in shown.missing:
            click.echo(printable(text), err=True)
        if figures is not None:
            draw_figures(classifier, judged, data, figures, shown)
            click.echo(f"figures: {printable(str(figures))}", err=True)
        if report is not None:
            batch, missing = _outstanding(run, device, data)
            for text in missing:
                click.echo(printable(text), err=True)
            write_report(classifier, judged, data, report, shown, [*notes, *missing], batch)
            click.echo(f"report: {printable(str(report))}", err=True)
    if isinstance(judged, LabelJudgment):
        from slipform.train.commands.validate_labels import lines, values

        click.echo(json_text(values(judged)) if as_json else "\n".join(lines(judged)))
    elif as_json:
        click.echo(json_text(_values(judged)))
    else:
        _print(judged)


def _outstanding(run: Path, device: str, data: Path | None) -> tuple[Replayed | None, list[str]]:
    """The batch of the step that stood out, or a sentence that says why there is none."""
    from slipform.train.replay.outstanding import outstanding_batch

    try:
        return outstanding_batch(run, device, data), []
    except SlipformError as error:
        return None, [f"The step that stood out cannot be shown: {error.message}"]


def _values(judged: Judgment) -> dict[str, Any]:
    """The figures for JSON; nan where there is none."""
    figures, scores, found = judged.figures, judged.scores, judged.calibration
    top5 = figures.get("top5")
    values: dict[str, Any] = {
        "split": judged.split,
        "images": len(judged.answers),
        "top1": figures["top1"].value,
        "top5": top5.value if top5 else 1.0,
    }
    values |= {name: one.value for name, one in figures.items() if name not in values}
    values["intervals"] = {name: [one.low, one.high] for name, one in figures.items()}
    values["temperature"] = found.temperature
    values["ece_with_temperature"] = float(found.after.error) if found.after else None
    columns = {
        "precision": scores.precision, "recall": scores.recall, "f1": scores.f1,
        "auroc": judged.auroc,
    }  # fmt: skip
    values["per_class"] = {name: float(scores.recall[c]) for c, name in enumerate(judged.classes)}
    values["classes"] = {
        name: {"images": int(scores.images[c])}
        | {key: float(column[c]) for key, column in columns.items()}
        for c, name in enumerate(judged.classes)
    }
    values["confused"] = [
        {
            "true": judged.classes[pair.actual],
            "predicted": judged.classes[pair.predicted],
            "images": pair.images,
        }
        for pair in judged.pairs[:20]
    ]
    return values


def _print(judged: Judgment) -> None:
    from slipform.train.scores.judgment import HEADLINES

    scores, names = judged.scores, [printable(name) for name in judged.classes]
    width = max(map(len, names))
    click.echo(f"{'class':<{width}}  images  recall  precision      F1   AUROC")
    for c, name in enumerate(names):
        if scores.images[c] == 0:
            click.echo(f"{name:<{width}}  no images")
            continue
        area = "      –" if math.isnan(judged.auroc[c]) else f"{judged.auroc[c]:7.4f}"
        click.echo(
            f"{name:<{width}}  {int(scores.images[c]):6}  {scores.recall[c]:6.4f}"
            f"  {scores.precision[c]:9.4f}  {scores.f1[c]:6.4f} {area}"
        )
    for pair in judged.pairs[:3]:
        click.echo(
            f"confused: {names[pair.actual]} as {names[pair.predicted]}, {pair.images} images"
        )
    figures, found = judged.figures, judged.calibration
    for key, one in figures.items():
        if not math.isnan(one.value):
            click.echo(f"{HEADLINES[key]}: {one}")
    if not math.isnan(found.temperature):
        after = f", with it ECE {float(found.after.error):.4f}" if found.after else ""
        click.echo(f"temperature fitted on val: {found.temperature:.3f}{after}")
    top5 = figures["top5"].value if "top5" in figures else 1.0
    click.echo(
        f"{judged.split}: top-1 {figures['top1'].value:.4f}, top-5 {top5:.4f}, loss"
        f" {figures['loss'].value:.4f}, {len(judged.answers)} images"
    )
