"""The page of a run whose images have several labels.

In: a judgment, pictures, the run folder. Out: one HTML file that fetches nothing and runs no
script; see `run_page`.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from slipform.pipelines.errors import printable
from slipform.train.figures.calibration import label_reliability_figure
from slipform.train.figures.draw import short
from slipform.train.figures.label_pictures import LabelPicture
from slipform.train.figures.labels import judged_figure
from slipform.train.figures.pictures import with_map
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
from slipform.train.scores.label_judgment import LABEL_HEADLINES, LabelJudgment

__all__ = ["label_page"]

_FIRST = ("map", "f1", "auroc")  # the large numbers


def label_page(
    run: Path,
    judged: LabelJudgment,
    *,
    facts: Sequence[tuple[str, str]],
    settings: str,
    losses: Sequence[LabelPicture] = (),
    maps: Sequence[LabelPicture] = (),
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
    precision = figures["map"]
    if images:
        headline = (
            f"mAP {precision.value:.3f} ({precision.low:.3f} to {precision.high:.3f}) on"
            f" {images:,} {judged.split} images with any number of {len(judged.classes):,} labels."
        )
    else:
        headline = f"{judged.split} has no images."
    large = [
        (number(figures[key].value), LABEL_HEADLINES[key], span(figures[key])) for key in _FIRST
    ]
    return page_of(
        run,
        headline,
        large,
        figures=figures_table(figures, LABEL_HEADLINES),
        classes=_classes(judged),
        calibration=_calibration(judged),
        losses=_pictures(losses) if losses else "",
        maps=_maps(maps) if maps else "",
        facts=facts,
        settings=settings,
        batch=batch,
        notes=notes,
    )


def _classes(judged: LabelJudgment) -> str:
    scores, classes, worst = judged.scores, judged.classes, judged.worst_classes
    text = ""
    if worst:
        many = ", the worst ones" if len(worst) > 40 else ""
        text = figure_html(
            lambda: judged_figure(judged),
            f"Average precision of each class{many}, with its interval",
        )
    lines = [
        (
            short(classes[c], 40),
            f"{int(scores.images[c])}",
            number(judged.average_precision[c].value),
            span(judged.average_precision[c]),
            number(float(judged.auroc[c])),
            *(number(float(x[c])) for x in (scores.recall, scores.precision, scores.f1)),
            number(float(judged.thresholds[c])),
        )
        for c in worst
    ]
    header = (
        "class", "images", "AP", "95 % interval", "AUROC", "recall", "precision", "F1", "threshold",
    )  # fmt: skip
    text += folded_table(header, lines, "Each class, the lowest average precision first")
    absent = len(classes) - len(worst)
    text += (
        "<p>An image has a label if its probability reaches the threshold of the class, which"
        " has the highest F1 on val.</p>\n"
    )
    return text + (
        f"<p>No image of this split has {absent} of the classes.</p>\n" if absent else ""
    )


def _calibration(judged: LabelJudgment) -> str:
    found = judged.calibration
    told = temperature_words(found, judged.figures, "The order of the images stays the same.")
    return (
        "<p>A model is calibrated if 80 % of the images with a probability of 0.8 for a class have"
        " this label. The expected calibration error (ECE) is the mean distance from that, over all"
        " images and classes in 15 bins.</p>\n<p>"
        f"{escape(told)}</p>\n"
        + figure_html(lambda: label_reliability_figure(found), "Reliability")
    )


def _pictures(pictures: Sequence[LabelPicture]) -> str:
    items = "".join(
        f"<li>{image_html(one.image, one.name)}labels: <b>{escape(one.words()[0])}</b>"
        f"<br>found wrongly: <b>{escape(one.words()[1])}</b>"
        f'<br><span class="file">{escape(printable(one.name))}</span></li>\n'
        for one in pictures
    )
    return (
        "<p>The images with the highest losses, as the net sees them: their labels with the"
        " probabilities, and the other classes whose probability reaches the threshold. Missing"
        f' labels are often among them.</p>\n<ul class="pictures">\n{items}</ul>\n'
    )


def _maps(pictures: Sequence[LabelPicture]) -> str:
    items = ""
    for one in pictures:
        assert one.map is not None
        shown = [(one.image, "the image"), (with_map(one.image, one.map), f"map of {one.worst}")]
        both = "".join(image_html(image, f"{one.name}: {what}") for image, what in shown)
        has = "which it has" if one.is_label else "which it does not have"
        items += (
            f'<li><div class="three">{both}</div><b>{escape(short(one.worst))}</b>'
            f" {one.worst_probability:.2f}, {has}<br>"
            f'<span class="file">{escape(printable(one.name))}</span></li>\n'
        )
    return (
        "<p>The image, and what speaks for the class that causes most of its loss (Grad-CAM): red"
        f' speaks most for it.</p>\n<ul class="pictures maps">\n{items}</ul>\n'
    )
