"""A sheet of suspicious training images, with labels and what the run has seen of them.

In: pictures and lines of text. Out: a figure of matplotlib.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from slipform.train.figures.draw import MUTED, new_figure, short
from slipform.train.figures.pictures import Picture

__all__ = ["suspects_figure"]

_COLUMNS = 6


def suspects_figure(title: str, pictures: Sequence[Picture], notes: Sequence[str]) -> Any:
    """Draw images with label, suggestion, note and file.

    Args:
        title: The title of the sheet.
        pictures: At least one, in the order of the ranking. `predicted` is the suggested class.
        notes: A line for each picture.
    """
    rows = -(-len(pictures) // _COLUMNS)
    figure, axes = new_figure(
        min(_COLUMNS, len(pictures)), rows, width=2.3, height=2.9, squeeze=False
    )
    figure.suptitle(title, fontsize=10)
    for panel, one, note in zip(axes.flat, pictures, notes, strict=False):
        panel.imshow(one.image, interpolation="nearest")
        panel.set_axis_off()
        panel.set_title(
            f"label {short(one.actual, 22)} {one.actual_probability:.2f}\n"
            f"{short(one.predicted, 22)} {one.probability:.2f}",
            fontsize=8,
            parse_math=False,
        )
        panel.text(
            0.5, -0.03, f"{note}\n{short(one.name, 34)}", transform=panel.transAxes, ha="center",
            va="top", fontsize=6.5, color=MUTED, parse_math=False,
        )  # fmt: skip
    for panel in axes.flat[len(pictures) :]:
        panel.set_axis_off()
    return figure
