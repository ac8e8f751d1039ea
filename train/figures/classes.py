"""Figures of the classes that stay readable with 1,000 of them: accuracy, confusion, pairs.

In: a confusion matrix and the names of the classes. Out: figures of matplotlib. The worst classes
and pairs are named; all others are in a summary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from slipform.train.figures.draw import (
    ACCENT,
    GRID,
    SERIES,
    light_frame,
    name_ticks,
    new_figure,
    short,
    whole_ticks,
)
from slipform.train.scores.counts import class_scores
from slipform.train.scores.judgment import confused_pairs

__all__ = ["confusion_figure", "pairs_figure", "per_class_figure"]

_Counts = npt.NDArray[np.int64]

_BARS = 40  # classes with a bar each
_WORST = 25  # of more classes
_CELLS = 30  # classes with a row each
_CONFUSED = 20  # of more classes
_PAIRS = 20
_WIDE = 1.96  # standard deviations of a 95 % interval


def per_class_figure(confusion: _Counts, classes: Sequence[str]) -> Any:
    """The accuracy on each class, the worst first; of many classes the worst, and all as a curve.

    A thin line is the 95 % interval of Wilson (1927).

    Args:
        confusion: int64 [C, C]. Rows are true classes, columns are predicted classes.
        classes: The names of the classes.
    """
    right, images = confusion.diagonal(), confusion.sum(1)
    recall = class_scores(right, images, confusion.sum(0)).recall
    order = [int(c) for c in np.argsort(recall, kind="stable") if images[c]]
    many = len(order) > _BARS
    shown = order[:_WORST] if many else order
    height = max(2.2, 0.9 + 0.21 * len(shown))
    figure, axes = new_figure(
        2 if many else 1, width=5.2 if many else 7.0, height=height, squeeze=False
    )
    bars, whole = axes[0, 0], max(1, int(images.sum()))
    places = np.arange(len(shown))
    bars.barh(places, recall[shown], color=ACCENT, height=0.62)
    low, high = _wilson(right[shown], images[shown])
    bars.hlines(places, low, high, color="#000000", linewidth=1.0)
    bars.axvline(right.sum() / whole, color=SERIES["val"], linewidth=1.0, linestyle="--")
    name_ticks(bars.yaxis, [f"{short(classes[c])}  ({images[c]})" for c in shown])
    title = f"the worst {len(shown)} of {len(order)} classes" if many else "accuracy per class"
    bars.set(xlim=(0, 1), ylim=(len(shown) - 0.4, -0.6), title=title)
    bars.set_xlabel(f"accuracy; in brackets: images; dashed: all images, {right.sum() / whole:.3f}")
    light_frame(bars)
    if many:
        curve = axes[0, 1]
        curve.fill_between(np.arange(len(order)) + 1, recall[order], color=ACCENT, alpha=0.35)
        curve.plot(np.arange(len(order)) + 1, recall[order], color=ACCENT, linewidth=1.4)
        curve.axhline(right.sum() / whole, color=SERIES["val"], linewidth=1.0, linestyle="--")
        median = float(np.median(recall[order]))
        curve.set(xlim=(1, len(order)), ylim=(0, 1.02), title=f"all {len(order)} classes, sorted")
        curve.set_xlabel(f"classes, the worst first; the median class has {median:.3f}")
        light_frame(curve)
    return figure


def confusion_figure(confusion: _Counts, classes: Sequence[str]) -> Any:
    """The confusion matrix in percent of each true class; of many classes the most confused ones.

    Args:
        confusion: int64 [C, C]. Rows are true classes, columns are predicted classes.
        classes: The names of the classes.
    """
    images = confusion.sum(1)
    many = len(classes) > _CELLS
    shown = _confused(confusion) if many else list(range(len(classes)))
    cells = confusion[np.ix_(shown, shown)]
    names = [short(classes[c]) for c in shown]
    columns = list(names)
    if many:
        others = images[shown] - cells.sum(1)
        cells, columns = np.column_stack([cells, others]), [*columns, "all other classes"]
    shares = cells / np.maximum(images[shown, None], 1)
    side = max(3.2, 0.36 * len(shown) + 1.6)
    figure, axes = new_figure(1, width=max(5.0, side + 1.2), height=side)
    size = 8.0 if len(shown) <= 12 else 6.5
    for row, values in enumerate(shares):
        for column, share in enumerate(values):
            _cell(axes, row, column, float(share), size)
    axes.set(xlim=(-0.5, len(columns) - 0.5), ylim=(len(shown) - 0.5, -0.5))
    axes.set_aspect("equal")
    name_ticks(axes.xaxis, columns, rotation=90)
    name_ticks(axes.yaxis, [f"{n}  ({images[c]})" for n, c in zip(names, shown, strict=True)])
    axes.tick_params(length=0)
    title = f"the {len(shown)} most confused of {len(classes)} classes" if many else "confusion"
    axes.set(xlabel="predicted", ylabel="true (images)", title=f"{title}, % of each true class")
    for spine in axes.spines.values():
        spine.set_color(GRID)
    return figure


def pairs_figure(confusion: _Counts, classes: Sequence[str]) -> Any | None:
    """The pairs of classes that are confused most, as bars.

    Args:
        confusion: int64 [C, C]. Rows are true classes, columns are predicted classes.
        classes: The names of the classes.

    Returns:
        The figure; None if no image was classified wrongly.
    """
    pairs = confused_pairs(confusion, _PAIRS)
    if not pairs:
        return None
    figure, axes = new_figure(1, width=7.5, height=max(1.8, 0.9 + 0.24 * len(pairs)))
    places = np.arange(len(pairs))
    axes.barh(places, [pair.images for pair in pairs], color=ACCENT, height=0.62)
    for place, pair in zip(places, pairs, strict=True):
        axes.text(pair.images, place, f" {pair.images} ({pair.share:.0%})", va="center", fontsize=8)
    names = [f"{short(classes[p.actual], 20)} → {short(classes[p.predicted], 20)}" for p in pairs]
    axes.yaxis.set_ticks(places, names, fontsize=8, parse_math=False)
    axes.set(ylim=(len(pairs) - 0.4, -0.6), xlim=(0, 1.18 * pairs[0].images))
    axes.set_title("pairs confused most: true → predicted")
    axes.set_xlabel("images; in brackets: share of the images of the true class")
    whole_ticks(axes.xaxis)
    light_frame(axes)
    return figure


def _cell(axes: Any, row: int, column: int, share: float, size: float) -> None:
    """A cell of the matrix: shaded by its share, with the percentage."""
    from matplotlib.patches import Rectangle

    if share <= 0:
        return
    color = ACCENT if row == column else SERIES["val"]
    alpha = 0.12 + 0.88 * min(share, 1.0)
    corner = (column - 0.5, row - 0.5)
    axes.add_patch(Rectangle(corner, 1, 1, facecolor=color, alpha=alpha, linewidth=0))
    percent = 100 * share
    text = "<1" if percent < 0.95 else f"{percent:.0f}"
    ink = "#ffffff" if alpha > 0.62 else "#000000"
    axes.text(column, row, text, ha="center", va="center", fontsize=size, color=ink)


def _confused(confusion: _Counts) -> list[int]:
    """The classes of the most confused pairs, partners beside each other."""
    found: list[int] = []
    for pair in confused_pairs(confusion, 4 * _CONFUSED):
        for own, partner in ((pair.actual, pair.predicted), (pair.predicted, pair.actual)):
            if own not in found and len(found) < _CONFUSED:
                place = found.index(partner) + 1 if partner in found else len(found)
                found.insert(place, own)
    return found or list(range(min(_CONFUSED, len(confusion))))


def _wilson(right: _Counts, images: _Counts) -> tuple[Any, Any]:
    """The interval of a share (Wilson, 1927)."""
    share, square = right / images, _WIDE**2
    middle = (share + square / (2 * images)) / (1 + square / images)
    half = _WIDE * np.sqrt(share * (1 - share) / images + square / (4 * images**2))
    half = half / (1 + square / images)
    return middle - half, middle + half
