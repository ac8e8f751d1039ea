"""The figure of a result whose images have several labels: average precision of each class.

In: a LabelEvaluation and the names of the classes. Out: a PNG file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from slipform.train.figures.draw import ACCENT, SERIES, name_ticks, new_figure, save, short
from slipform.train.step.label_metrics import LabelEvaluation

__all__ = ["per_label"]

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
    values, images = result.average_precision, result.positive.sum(0)
    order = [int(c) for c in np.argsort(values, kind="stable") if images[c]]
    shown = order[:_BARS]
    figure, axes = new_figure(1, width=7.0, height=max(2.2, 0.9 + 0.21 * len(shown)))
    places = np.arange(len(shown))
    axes.barh(places, values[shown], color=ACCENT, height=0.62)
    axes.axvline(result.mean_average_precision, color=SERIES["val"], linewidth=1.0, linestyle="--")
    name_ticks(axes.yaxis, [f"{short(classes[c])}  ({images[c]})" for c in shown])
    few = len(shown) == len(order)
    title = "average precision" if few else f"the worst {len(shown)} of {len(order)} classes"
    axes.set(xlim=(0, 1), ylim=(len(shown) - 0.4, -0.6), title=title)
    axes.set_xlabel(
        f"average precision; in brackets: images; dashed: mAP, {result.mean_average_precision:.3f}"
    )
    return save(figure, out, "per_class.png")
