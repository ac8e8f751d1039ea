"""The reliability figure: accuracy against confidence, before and after the temperature.

In: the calibration of a judgment. Out: a figure of matplotlib.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from slipform.train.figures.draw import ACCENT, MUTED, SERIES, light_frame, new_figure
from slipform.train.scores.calibration import NUM_BINS, Reliability
from slipform.train.scores.judgment import Calibration

__all__ = ["label_reliability_figure", "reliability_figure"]


def reliability_figure(found: Calibration) -> Any:
    """The accuracy of the images of each confidence (Guo et al., 2017), and how many there are.

    Args:
        found: The calibration. With a temperature there is a second column for it.
    """
    return _figure(found, "accuracy", "confidence: probability of the predicted class")


def label_reliability_figure(found: Calibration) -> Any:
    """The share of images that have a label, for each probability of it; all classes together.

    Args:
        found: The calibration. With a temperature there is a second column for it.
    """
    return _figure(found, "share with the label", "probability of a class")


def _figure(found: Calibration, share: str, across: str) -> Any:
    parts = [("the model's probabilities", found.before)]
    if found.after is not None:
        parts.append((f"temperature {found.temperature:.2f}, fitted on val", found.after))
    figure, axes = new_figure(
        len(parts), 2, width=4.4, height=2.4, squeeze=False, sharex=True,
        gridspec_kw={"height_ratios": [3, 1]},
    )  # fmt: skip
    for column, (title, one) in enumerate(parts):
        _panel(axes[0, column], one, title)
        _counts(axes[1, column], one)
        axes[1, column].set_xlabel(across)
    axes[0, 0].set_ylabel(share)
    axes[1, 0].set_ylabel("images")
    return figure


def _panel(axes: Any, found: Reliability, title: str) -> None:
    middles = (np.arange(NUM_BINS) + 0.5) / NUM_BINS
    width = 0.86 / NUM_BINS
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1.0, linestyle="--")
    axes.bar(middles, np.nan_to_num(found.accuracy), width, color=ACCENT, alpha=0.85)
    there = found.images > 0
    axes.plot(
        found.confidence[there], found.accuracy[there], "o", color=SERIES["val"], markersize=3.5
    )
    axes.set(xlim=(0, 1), ylim=(0, 1), title=f"{title}\nECE {float(found.error):.3f}")
    light_frame(axes)


def _counts(axes: Any, found: Reliability) -> None:
    middles = (np.arange(NUM_BINS) + 0.5) / NUM_BINS
    axes.bar(middles, found.images, 0.86 / NUM_BINS, color=MUTED)
    axes.yaxis.get_major_locator().set_params(integer=True, nbins=3)
    light_frame(axes)
