"""The page of a run: the scores of its model, its errors, and its training.

In: a judgment, pictures, the run folder. Out: one HTML file that fetches nothing and runs no
script.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from slipform.pipelines.errors import printable
from slipform.train.figures.calibration import reliability_figure
from slipform.train.figures.classes import confusion_figure, pairs_figure, per_class_figure
from slipform.train.figures.draw import short
from slipform.train.figures.pictures import Picture, with_map
from slipform.train.page.parts import (
    Replayed,
    figure_html,
    figures_table,
    folded_table,
    image_html,
    number,
    page_of,
    span,
    temperature_words,
)
from slipform.train.scores.judgment import HEADLINES, Judgment

__all__ = ["run_page"]

_FIRST = ("top1", "f1", "auroc")  # the large numbers


def run_page(
    run: Path,
    judged: Judgment,
    *,
    facts: Sequence[tuple[str, str]],
    settings: str,
    losses: Sequence[Picture] = (),
    maps: Sequence[Picture] = (),
    batch: Replayed | None = None,
    notes: Sequence[str] = (),
) -> str:
    """Make the page of a run.

    Args:
        run: The run folder.
        judged: What its model says on a split.
        facts: (name, value) pairs: data, net, machine.
        settings: The settings of the run as TOML.
        losses: Pictures of the images with the highest losses.
        maps: Pictures with class activation maps.
        batch: The batch of a step of the training.
        notes: Sentences about the data, or about what is missing.
    """
    figures, images = judged.figures, len(judged.answers)
    top1 = figures["top1"]
    if images:
        headline = (
            f"{top1.value:.1%} of {images:,} {judged.split} images are classified correctly"
            f" ({top1.low:.1%} to {top1.high:.1%})."
        )
    else:
        headline = f"{judged.split} has no images."
    large = [(number(figures[key].value), HEADLINES[key], span(figures[key])) for key in _FIRST]
    return page_of(
        run,
        headline,
        large,
        figures=figures_table(figures, HEADLINES),
        classes=_classes(judged),
        calibration=_calibration(judged),
        losses=_pictures(losses) if losses else "",
        maps=_maps(maps) if maps else "",
        facts=facts,
        settings=settings,
        batch=batch,
        notes=notes,
    )


def _classes(judged: Judgment) -> str:
    confusion, classes = judged.answers.confusion, judged.classes
    text = ""
    if len(judged.answers):
        many = ", the worst ones by name" if len(classes) > 40 else ""
        text += figure_html(
            lambda: per_class_figure(confusion, classes), f"Accuracy of each class{many}"
        )
        text += figure_html(lambda: confusion_figure(confusion, classes), "Confusion of classes")
        text += figure_html(lambda: pairs_figure(confusion, classes), "Pairs confused most")
    scores = judged.scores
    lines = [
        (
            short(classes[c], 40),
            f"{int(scores.images[c])}",
            *(number(float(x[c])) for x in (scores.recall, scores.precision, scores.f1)),
            number(float(judged.auroc[c])),
        )
        for c in judged.worst_classes
    ]
    header = ("class", "images", "recall", "precision", "F1", "AUROC")
    caption = "Each class, the lowest F1 first"
    text += folded_table(header, lines, caption)
    absent = len(classes) - len(judged.worst_classes)
    return text + (f"<p>{absent} classes have no images in this split.</p>\n" if absent else "")


def _calibration(judged: Judgment) -> str:
    found = judged.calibration
    told = temperature_words(found, judged.figures, "The predicted classes stay the same.")
    return (
        "<p>A model is calibrated if 80 % of the images with a confidence of 0.8 are right. The"
        " expected calibration error (ECE) is the mean distance from that, over 15 bins.</p>\n"
        f"<p>{escape(told)}</p>\n" + figure_html(lambda: reliability_figure(found), "Reliability")
    )


def _pictures(pictures: Sequence[Picture]) -> str:
    items = "".join(
        f"<li>{image_html(one.image, one.name)}true: <b>{escape(short(one.actual))}</b>"
        f" {one.actual_probability:.2f}<br>predicted: <b>{escape(short(one.predicted))}</b>"
        f' {one.probability:.2f}<br><span class="file">{escape(printable(one.name))}</span></li>\n'
        for one in pictures
    )
    return (
        "<p>The images with the highest losses, as the net sees them, with the probabilities of"
        " the true and of the predicted class. Wrong labels are often among them.</p>\n"
        f'<ul class="pictures">\n{items}</ul>\n'
    )


def _maps(pictures: Sequence[Picture]) -> str:
    items = ""
    for one in pictures:
        assert one.maps is not None
        shown = [
            (one.image, "the image"),
            (with_map(one.image, one.maps[0]), "map of the predicted class"),
            (with_map(one.image, one.maps[1]), "map of the true class"),
        ]
        shown = shown[:2] if one.predicted == one.actual else shown
        three = "".join(image_html(image, f"{one.name}: {what}") for image, what in shown)
        items += (
            f'<li><div class="three">{three}</div>predicted <b>{escape(short(one.predicted))}</b>'
            f" {one.probability:.2f}, true <b>{escape(short(one.actual))}</b>"
            f' {one.actual_probability:.2f}<br><span class="file">{escape(printable(one.name))}'
            "</span></li>\n"
        )
    return (
        "<p>The image, what speaks for the predicted class, and what speaks for the true class"
        " (Grad-CAM): red speaks most for it.</p>\n"
        f'<ul class="pictures maps">\n{items}</ul>\n'
    )
