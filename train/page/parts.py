"""The parts that pages of runs share: figures, pictures, intervals, the training.

In: figures of matplotlib, images, numbers, a run folder. Out: HTML.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from slipform.pipelines.errors import printable
from slipform.train.figures.curves import run_figure
from slipform.train.figures.draw import svg
from slipform.train.figures.pictures import as_png
from slipform.train.page.document import Section, document, numbers, table
from slipform.train.records import read_metrics
from slipform.train.scores.bootstrap import Interval
from slipform.train.scores.judgment import Calibration

__all__ = [
    "Replayed", "figure_html", "figures_table", "folded_table", "image_html", "number", "page_of",
    "replayed_html", "span", "temperature_words",
]  # fmt: skip

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


def page_of(
    run: Path,
    headline: str,
    large: Sequence[tuple[str, str, str]],
    *,
    figures: str,
    classes: str,
    calibration: str,
    losses: str,
    maps: str,
    facts: Sequence[tuple[str, str]],
    settings: str,
    batch: Replayed | None,
    notes: Sequence[str],
) -> str:
    """Make the page of a run.

    Args:
        run: The run folder.
        headline: The most important sentence, plain text.
        large: The large numbers: number, what it is, its interval.
        figures, classes, calibration, losses, maps: The parts about the judgment, as HTML. One that
            is "" is left out.
        facts: (name, value) pairs: data, net, machine.
        settings: The settings of the run as TOML.
        batch: The batch of a step of the training.
        notes: Sentences about the data, or about what is missing.
    """
    judgment = (
        ("figures", "Figures", figures),
        ("classes", "Classes", classes),
        ("losses", "Highest losses", losses),
        ("maps", "Class activation maps", maps),
        ("calibration", "Calibration", calibration),
    )
    every = [Section(*part) for part in judgment if part[-1]]
    if batch is not None:
        every.append(Section("batch", "The step that stood out", replayed_html(batch)))
    every.append(Section("training", "Training", _training(run, facts, settings)))
    return document(
        name=f"Slipform: {escape(printable(run.resolve().name))}",
        headline=escape(headline),
        header=numbers(large) + "".join(f"<p>{escape(printable(x))}</p>\n" for x in notes),
        sections=every,
        footer="Made by <code>slipform validate --report</code>. The page is one file: it fetches"
        " nothing and runs no script.",
        style=_STYLE,
    )


def figures_table(figures: Mapping[str, Interval], names: Mapping[str, str]) -> str:
    """The table of the figures of all images, with a sentence about the intervals.

    Args:
        figures: Key -> figure.
        names: Key -> what the figure is.
    """
    lines = [(names[key], number(one.value), span(one)) for key, one in figures.items()]
    return table(("figure", "value", "95 % interval"), lines, "Figures of all images") + (
        "<p>Intervals are bootstrap intervals over the images of the split: how much"
        " the figure would vary with other images of the same kind. They do not cover other"
        " seeds of the training.</p>\n"
    )


def folded_table(header: Sequence[str], lines: Sequence[Sequence[str]], caption: str) -> str:
    """A table whose first lines are seen, and the rest after a click.

    Args:
        header: The headings, plain text.
        lines: The cells of each line, plain text.
        caption: The caption above the table.
    """
    text = table(header, lines[:_LINES], caption)
    if rest := lines[_LINES:]:
        text += (
            f"<details><summary>{len(rest)} more classes</summary>\n"
            f"{table(header, rest, caption + ', continued')}</details>\n"
        )
    return text


def temperature_words(found: Calibration, figures: Mapping[str, Interval], unchanged: str) -> str:
    """What the temperature changes, plain text.

    Args:
        found: The calibration.
        figures: The figures of all images; "ece" and "loss" are read.
        unchanged: A sentence about what it does not change.
    """
    if math.isnan(found.temperature):
        return (
            "No temperature was fitted: there is no val split, or the logits on it are not finite."
        )
    if found.after is None:
        return (
            f"The temperature {found.temperature:.3f} was fitted on these images, so they cannot"
            " show what it improves. Judge the test split."
        )
    return (
        f"Divided by the temperature {found.temperature:.3f}, which was fitted on val, the logits"
        f" have an ECE of {float(found.after.error):.4f} instead of {figures['ece'].value:.4f}, and"
        f" a loss of {found.loss_after:.4f} instead of {figures['loss'].value:.4f}. {unchanged}"
    )


def replayed_html(batch: Replayed) -> str:
    """The part about a step.

    Args:
        batch: The batch of the step.
    """
    figure = figure_html(lambda: batch.figure, "Images of the step that stood out", narrow=False)
    return (
        f"<p>{escape(printable(batch.words))} The whole batch:"
        f" <code>{escape(printable(batch.command))}</code></p>\n{figure}"
    )


def _training(run: Path, facts: Sequence[tuple[str, str]], settings: str) -> str:
    curves = ""
    if read_metrics(run, "epoch"):
        curves = figure_html(lambda: run_figure(run), "Loss and accuracy in training", narrow=False)
    told = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(printable(value))}</dd>\n" for name, value in facts
    )
    return (
        f'{curves}<dl class="facts">\n{told}</dl>\n'
        f"<details><summary>All settings</summary><pre>{escape(settings)}</pre></details>\n"
    )


def image_html(image: Any, words: str) -> str:
    """An image in the page.

    Args:
        image: uint8 [S, S, 3].
        words: What it shows, plain text.
    """
    content = base64.b64encode(as_png(image)).decode()
    return f'<img alt="{escape(printable(words))}" src="data:image/png;base64,{content}">'


def figure_html(draw: Callable[[], Any], words: str, *, narrow: bool = True) -> str:
    """A figure in the page.

    Args:
        draw: Makes a figure of matplotlib; None: there is none, and the text is empty.
        words: The caption, plain text.
        narrow: Whether the figure keeps below the width of text.
    """
    figure = draw()
    if figure is None:
        return ""
    kind = ' class="narrow"' if narrow else ""
    return (
        f"<figure{kind}>\n{svg(figure, words)}<figcaption>{escape(words)}</figcaption></figure>\n"
    )


def number(value: float) -> str:
    """A number with four places, or a dash for nan.

    Args:
        value: The number.
    """
    return "–" if math.isnan(value) else f"{value:.4f}"


def span(one: Interval) -> str:
    """The ends of an interval; "" if there are none.

    Args:
        one: The figure.
    """
    return "" if math.isnan(one.low) else f"{one.low:.4f} to {one.high:.4f}"
