"""Pictures of images with several labels: the highest losses, and class activation maps.

In: images as the net sees them, with their labels and probabilities. Out: figures of matplotlib.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from slipform.train.figures.draw import new_figure, short
from slipform.train.figures.pictures import picture_sheet, with_map

__all__ = ["LabelPicture", "label_losses_figure", "label_maps_figure"]

_SHOWN = 3  # labels by name


@dataclass(frozen=True)
class LabelPicture:
    """An image with several labels, and what the model says of it.

    Attributes:
        image: uint8 [S, S, 3], as the net sees it.
        name: The name of the file from which prep took it.
        labels: Its labels with their probabilities, the lowest first.
        wrong: The other classes whose probability reaches the threshold, the highest first.
        worst: The class with the highest loss.
        worst_probability: Its probability.
        is_label: Whether the image has this class.
        loss: The mean binary cross entropy over the classes.
        map: float32 [S, S] in 0..1 for the class with the highest loss; None: there is none.
    """

    image: npt.NDArray[np.uint8]
    name: str
    labels: Sequence[tuple[str, float]]
    wrong: Sequence[tuple[str, float]]
    worst: str
    worst_probability: float
    is_label: bool
    loss: float
    map: npt.NDArray[np.float32] | None = None

    def words(self) -> tuple[str, str]:
        """The labels, and the classes that were found wrongly, as text: "red 0.98, blue 0.03"."""
        return _listed(self.labels), _listed(self.wrong)


def _listed(classes: Sequence[tuple[str, float]]) -> str:
    named = ", ".join(f"{short(name, 22)} {share:.2f}" for name, share in classes[:_SHOWN])
    more = len(classes) - _SHOWN
    return f"{named} and {more} more" if more > 0 else named or "none"


def label_losses_figure(pictures: Sequence[LabelPicture]) -> Any:
    """The images with the highest losses, with the class that causes most of the loss.

    Args:
        pictures: At least one, the highest loss first.
    """
    titles = [f"{_worst(one)}\nloss {one.loss:.2f}" for one in pictures]
    return picture_sheet(pictures, titles, [""] * len(pictures), height=2.75)


def label_maps_figure(pictures: Sequence[LabelPicture]) -> Any:
    """Images, and the maps of the class that causes most of the loss, in two columns.

    Args:
        pictures: At least one; each has a map.
    """
    figure, axes = new_figure(2, len(pictures), width=2.6, height=2.75, squeeze=False)
    for row, one in zip(axes, pictures, strict=True):
        assert one.map is not None
        shown = ((one.image, short(one.name, 34)), (with_map(one.image, one.map), _worst(one)))
        for panel, (image, title) in zip(row, shown, strict=True):
            panel.imshow(image, interpolation="nearest")
            panel.set_axis_off()
            panel.set_title(title, fontsize=8, parse_math=False)
    return figure


def _worst(one: LabelPicture) -> str:
    """The class that causes most of the loss."""
    has = "label" if one.is_label else "no label"
    return f"{has} {short(one.worst, 22)} {one.worst_probability:.2f}"
