"""The figure of a result whose images have several labels: average precision of each class.

In: average precisions and the names of the classes. Out: a figure of matplotlib, or a PNG file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from slipform.train.figures.draw import ACCENT, SERIES, name_ticks, new_figure, save, short
from slipform.train.scores.label_judgment import LabelJudgment
from slipform.train.step.label_metrics import LabelEvaluation

__all__ = ["judged_figure", "label_figure", "per_label"]

_BARS = 40  # classes with a bar each


def per_label(out: Path, result: LabelEvaluation, classes: Sequence[str]) -> Path:
    """Draw per_class.png: the average precision of each class, or of the worst of many classes.

    Args:
        out: The folder of the figure.
        result: The result of an evaluation.
        classes: The names of the classes.

    Returns:
        The path of the figure.
    """
    images = result.positive.sum(0)
    return save(label_figure(result.average_precision, images, classes), out, "per_class.png")


def judged_figure(judged: LabelJudgment) -> Any:
    """The average precision of each class, with its interval; see `label_figure`.

    Args:
        judged: The judgment.
    """
    found = judged.average_precision
    values, ends = np.array([x.value for x in found]), [(x.low, x.high) for x in found]
    return label_figure(values, judged.scores.images, judged.classes, ends)


def label_figure(
    values: npt.NDArray[Any],
    images: npt.NDArray[Any],
    classes: Sequence[str],
    ends: Sequence[tuple[float, float]] = (),
) -> Any:
    """The average precision of each class, the worst first; of many classes the worst.

    Args:
        values: Floats [C]; nan for a class without images.
        images: The number of images of each class, [C].
        classes: The names of the classes.
        ends: For each class the ends of its interval, drawn as a thin line. Default: no lines.
    """
    order = [int(c) for c in np.argsort(values, kind="stable") if images[c]]
    shown = order[:_BARS]
    figure, axes = new_figure(1, width=7.0, height=max(2.2, 0.9 + 0.21 * len(shown)))
    places = np.arange(len(shown))
    axes.barh(places, values[shown], color=ACCENT, height=0.62)
    if len(ends) and shown:
        low, high = zip(*(ends[c] for c in shown), strict=True)
        axes.hlines(places, low, high, color="#000000", linewidth=1.0)
    mean = float(values[order].mean()) if order else float("nan")
    if order:
        axes.axvline(mean, color=SERIES["val"], linewidth=1.0, linestyle="--")
    name_ticks(axes.yaxis, [f"{short(classes[c])}  ({int(images[c])})" for c in shown])
    few = len(shown) == len(order)
    title = "average precision" if few else f"the worst {len(shown)} of {len(order)} classes"
    axes.set(xlim=(0, 1), ylim=(len(shown) - 0.4, -0.6), title=title)
    axes.set_xlabel(f"average precision; in brackets: images; dashed: mAP, {mean:.3f}")
    return figure
