"""The page of a run: the scores of its model, its errors, and its training.

In: a judgment, pictures, the run folder. Out: one HTML file that fetches nothing and runs no
script.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from slipform.pipelines.errors import printable
from slipform.train.figures.calibration import reliability_figure
from slipform.train.figures.classes import confusion_figure, pairs_figure, per_class_figure
from slipform.train.figures.curves import run_figure
from slipform.train.figures.draw import short, svg
from slipform.train.figures.pictures import Picture, as_png, with_map
from slipform.train.page.document import Section, document, numbers, table
from slipform.train.records import read_metrics
from slipform.train.scores.judgment import HEADLINES, Judgment

__all__ = ["Replayed", "run_page"]

_FIRST = ("top1", "f1", "auroc")  # the large numbers
_LINES = 30  # of the table of classes that are seen without opening the rest
_STYLE = """\
figure svg { width: 100%; height: auto; display: block; background: var(--panel);
  border: 1px solid var(--line); border-radius: 10px; padding: .6rem; }
figure svg text { fill: var(--ink); }
figure.narrow svg { max-width: 46rem; }
.pictures { display: grid; gap: 1rem .9rem;
  grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); padding: 0; margin: 1rem 0; }
.pictures.maps { grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)); }
.pictures li { list-style: none; font-size: .8125rem; line-height: 1.35; break-inside: avoid; }
.pictures img { width: 100%; max-width: 12rem; height: auto; display: block;
  border-radius: 6px; margin-bottom: .3rem; }
.maps .three { display: grid; grid-template-columns: 1fr 1fr 1fr; gap: .3rem; }
.pictures .file { color: var(--muted); }
summary { cursor: pointer; color: var(--accent); margin: .75rem 0; }
pre { overflow-x: auto; font-size: .8125rem; background: var(--panel); padding: .8rem 1rem;
  border: 1px solid var(--line); border-radius: 10px; white-space: pre-wrap; }
@media (max-width: 36rem) { tbody th { white-space: normal; } }
@media print { .pictures { grid-template-columns: repeat(5, 1fr); }
  .pictures.maps { grid-template-columns: 1fr 1fr; } }
"""


class Replayed(NamedTuple):
    """The batch of a step, made again.

    Attributes:
        figure: The matplotlib figure of its images.
        words: A sentence about the step.
        command: The command that shows all of the batch.
    """

    figure: Any
    words: str
    command: str


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
    name = printable(run.resolve().name)
    if images:
        headline = (
            f"{top1.value:.1%} of {images:,} {judged.split} images are classified correctly"
            f" ({top1.low:.1%} to {top1.high:.1%})."
        )
    else:
        headline = f"{judged.split} has no images."
    large = [(_number(figures[key].value), HEADLINES[key], _range(judged, key)) for key in _FIRST]
    told = "".join(f"<p>{escape(printable(note))}</p>\n" for note in notes)
    sections = [
        Section("figures", "Figures", _figures(judged)),
        Section("classes", "Classes", _classes(judged)),
    ]
    if losses:
        sections.append(Section("losses", "Highest losses", _pictures(losses)))
    if maps:
        sections.append(Section("maps", "Class activation maps", _maps(maps)))
    sections.append(Section("calibration", "Calibration", _calibration(judged)))
    if batch is not None:
        sections.append(Section("batch", "The step that stood out", _batch(batch)))
    sections.append(Section("training", "Training", _training(run, facts, settings)))
    return document(
        name=f"Slipform: {escape(name)}",
        headline=escape(headline),
        header=numbers(large) + told,
        sections=sections,
        footer="Made by <code>slipform validate --report</code>. The page is one file: it fetches"
        " nothing and runs no script.",
        style=_STYLE,
    )


def _figures(judged: Judgment) -> str:
    lines = [
        (HEADLINES[name], _number(one.value), _range(judged, name))
        for name, one in judged.figures.items()
    ]
    return table(("figure", "value", "95 % interval"), lines, "Figures of all images") + (
        "<p>Intervals are bootstrap intervals over the images of the split: how much"
        " the figure would vary with other images of the same kind. They do not cover other"
        " seeds of the training.</p>\n"
    )


def _classes(judged: Judgment) -> str:
    confusion, classes = judged.answers.confusion, judged.classes
    text = ""
    if len(judged.answers):
        many = ", the worst ones by name" if len(classes) > 40 else ""
        text += _figure(
            lambda: per_class_figure(confusion, classes), f"Accuracy of each class{many}"
        )
        text += _figure(lambda: confusion_figure(confusion, classes), "Confusion of classes")
        text += _figure(lambda: pairs_figure(confusion, classes), "Pairs confused most")
    scores = judged.scores
    lines = [
        (
            short(classes[c], 40),
            f"{int(scores.images[c])}",
            *(_number(float(x[c])) for x in (scores.recall, scores.precision, scores.f1)),
            _number(float(judged.auroc[c])),
        )
        for c in judged.worst_classes
    ]
    header = ("class", "images", "recall", "precision", "F1", "AUROC")
    caption = "Each class, the lowest F1 first"
    text += table(header, lines[:_LINES], caption)
    if rest := lines[_LINES:]:
        text += (
            f"<details><summary>{len(rest)} more classes</summary>\n"
            f"{table(header, rest, caption + ', continued')}</details>\n"
        )
    absent = len(classes) - len(judged.worst_classes)
    return text + (f"<p>{absent} classes have no images in this split.</p>\n" if absent else "")


def _calibration(judged: Judgment) -> str:
    found = judged.calibration
    before = judged.figures["ece"].value
    if math.isnan(found.temperature):
        told = (
            "No temperature was fitted: there is no val split, or the logits on it are not finite."
        )
    elif found.after is None:
        told = (
            f"The temperature {found.temperature:.3f} was fitted on these images, so they cannot"
            " show what it improves. Judge the test split."
        )
    else:
        told = (
            f"Divided by the temperature {found.temperature:.3f}, which was fitted on val, the"
            f" logits have an ECE of {float(found.after.error):.4f} instead of {before:.4f}, and a"
            f" loss of {found.loss_after:.4f} instead of {judged.figures['loss'].value:.4f}. The"
            " predicted classes stay the same."
        )
    return (
        "<p>A model is calibrated if 80 % of the images with a confidence of 0.8 are right. The"
        " expected calibration error (ECE) is the mean distance from that, over 15 bins.</p>\n"
        f"<p>{escape(told)}</p>\n" + _figure(lambda: reliability_figure(found), "Reliability")
    )


def _batch(batch: Replayed) -> str:
    figure = _figure(lambda: batch.figure, "Images of the step that stood out", narrow=False)
    return (
        f"<p>{escape(printable(batch.words))} The whole batch:"
        f" <code>{escape(printable(batch.command))}</code></p>\n{figure}"
    )


def _training(run: Path, facts: Sequence[tuple[str, str]], settings: str) -> str:
    curves = ""
    if read_metrics(run, "epoch"):
        curves = _figure(lambda: run_figure(run), "Loss and accuracy in training", narrow=False)
    told = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(printable(value))}</dd>\n" for name, value in facts
    )
    return (
        f'{curves}<dl class="facts">\n{told}</dl>\n'
        f"<details><summary>All settings</summary><pre>{escape(settings)}</pre></details>\n"
    )


def _pictures(pictures: Sequence[Picture]) -> str:
    items = "".join(
        f"<li>{_image(one.image, one.name)}true: <b>{escape(short(one.actual))}</b>"
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
        three = "".join(_image(image, f"{one.name}: {what}") for image, what in shown)
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


def _image(image: Any, words: str) -> str:
    content = base64.b64encode(as_png(image)).decode()
    return f'<img alt="{escape(printable(words))}" src="data:image/png;base64,{content}">'


def _figure(draw: Callable[[], Any], words: str, *, narrow: bool = True) -> str:
    figure = draw()
    if figure is None:
        return ""
    kind = ' class="narrow"' if narrow else ""
    return (
        f"<figure{kind}>\n{svg(figure, words)}<figcaption>{escape(words)}</figcaption></figure>\n"
    )


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.4f}"


def _range(judged: Judgment, name: str) -> str:
    one = judged.figures[name]
    return "" if math.isnan(one.low) else f"{one.low:.4f} to {one.high:.4f}"
