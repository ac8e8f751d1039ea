"""Pictures of images: the highest losses, suspicious labels, and class activation maps.

In: images as the net sees them, with predictions. Out: figures of matplotlib; the same pictures as
small PNGs for a page.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import PIL.Image

from slipform.train.figures.draw import MUTED, new_figure, short

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "NamedImage",
    "Picture",
    "as_png",
    "losses_figure",
    "maps_figure",
    "picture_grid",
    "picture_sheet",
    "suspects_figure",
    "to_uint8",
    "with_map",
]

_UInt8 = npt.NDArray[np.uint8]
_COLUMNS = 6


class NamedImage(Protocol):
    """An image with the name of its file."""

    @property
    def image(self) -> _UInt8:
        """uint8 [S, S, 3]."""

    @property
    def name(self) -> str:
        """The name of the file."""


@dataclass(frozen=True)
class Picture:
    """An image and its prediction.

    Attributes:
        image: uint8 [S, S, 3], as the net sees it.
        name: The name of the file from which prep took it.
        actual: The name of the true class.
        predicted: The name of the predicted class.
        probability: The probability of the predicted class.
        actual_probability: The probability of the true class.
        loss: The cross entropy.
        maps: float32 [S, S] in 0..1 for the predicted and for the true class; None: there are none.
    """

    image: _UInt8
    name: str
    actual: str
    predicted: str
    probability: float
    actual_probability: float
    loss: float
    maps: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None = None


def losses_figure(pictures: Sequence[Picture]) -> Any:
    """The images with the highest losses, with true class, predicted class and file.

    Args:
        pictures: At least one, the highest loss first.
    """
    titles = [_title(one) for one in pictures]
    return picture_sheet(pictures, titles, [""] * len(pictures), height=2.75)


def suspects_figure(title: str, pictures: Sequence[Picture], notes: Sequence[str]) -> Any:
    """Suspicious training images, with label, suggestion, note and file.

    Args:
        title: The title of the sheet.
        pictures: At least one, in the order of the ranking. `predicted` is the suggested class.
        notes: A line for each picture.
    """
    titles = [
        f"label {short(one.actual, 22)} {one.actual_probability:.2f}\n"
        f"{short(one.predicted, 22)} {one.probability:.2f}"
        for one in pictures
    ]
    figure = picture_sheet(pictures, titles, [f"{note}\n" for note in notes], height=2.9)
    figure.suptitle(title, fontsize=10)
    return figure


def picture_grid(num: int, columns: int, *, width: float, height: float) -> tuple[Any, list[Any]]:
    """A figure with a panel for each of several pictures, row after row.

    Args:
        num: The number of pictures, 1 or more.
        columns: The most pictures in a row.
        width: The width of a panel, in inches.
        height: The height of a panel, in inches.

    Returns:
        The matplotlib figure, and `num` axes.
    """
    rows = -(-num // columns)
    figure, axes = new_figure(min(columns, num), rows, width=width, height=height, squeeze=False)
    for panel in axes.flat[num:]:
        panel.set_axis_off()
    return figure, list(axes.flat[:num])


def to_uint8(images: Tensor, normalize: tuple[Sequence[float], Sequence[float]]) -> _UInt8:
    """Normalized images as people see them.

    Args:
        images: [N, 3, S, S], on any device.
        normalize: The mean and the standard deviation of each channel, for values 0..1.

    Returns:
        uint8 [N, S, S, 3].
    """
    mean, std = (np.asarray(values, np.float32) for values in normalize)
    shown = (images.float().cpu().permute(0, 2, 3, 1).numpy() * std + mean) * 255
    return np.clip(np.rint(shown), 0, 255).astype(np.uint8)


def maps_figure(pictures: Sequence[Picture]) -> Any:
    """Images, and the maps of the predicted and of the true class, in three columns.

    An image that is classified rightly has one map.

    Args:
        pictures: At least one; each has maps.
    """
    figure, axes = new_figure(3, len(pictures), width=2.6, height=2.75, squeeze=False)
    for row, one in zip(axes, pictures, strict=True):
        assert one.maps is not None
        shown = (one.image, with_map(one.image, one.maps[0]), with_map(one.image, one.maps[1]))
        titles = (
            short(one.name, 34),
            f"for {short(one.predicted)} {one.probability:.2f}",
            f"for the true {short(one.actual)} {one.actual_probability:.2f}",
        )
        for panel, image, title in zip(row, shown, titles, strict=True):
            _show(panel, image)
            panel.set_title(title, fontsize=8, parse_math=False)
        if one.predicted == one.actual:
            row[2].clear()
            row[2].set_axis_off()
    return figure


def with_map(image: _UInt8, where: npt.NDArray[np.float32]) -> _UInt8:
    """An image with a map laid over it: red where the map is 1, blue where it is 0.

    Args:
        image: uint8 [S, S, 3].
        where: float32 [S, S], 0..1.
    """
    from matplotlib import colormaps

    colors = colormaps["turbo"](where)[..., :3] * 255
    return np.asarray(np.round(0.55 * image + 0.45 * colors), np.uint8)


def as_png(image: _UInt8, side: int = 160) -> bytes:
    """An image as a small PNG file for a page.

    Args:
        image: uint8 [S, S, 3].
        side: The largest side in pixels. Small images are enlarged without smoothing.
    """
    picture = PIL.Image.fromarray(image)
    if picture.width > side:
        picture = picture.resize((side, side), PIL.Image.Resampling.LANCZOS)
    elif 2 * picture.width <= side:
        factor = side // picture.width
        picture = picture.resize(
            (factor * picture.width, factor * picture.height), PIL.Image.Resampling.NEAREST
        )
    out = io.BytesIO()
    picture.save(out, "PNG", optimize=True)
    return out.getvalue()


def picture_sheet(
    pictures: Sequence[NamedImage], titles: Sequence[str], notes: Sequence[str], *, height: float
) -> Any:
    """Images with a title above each, and a note and the file below.

    Args:
        pictures: At least one.
        titles: For each the title, one or two lines.
        notes: For each the note, which ends with a line break; or "".
        height: The height of a panel, in inches.
    """
    figure, panels = picture_grid(len(pictures), _COLUMNS, width=2.3, height=height)
    for panel, one, title, note in zip(panels, pictures, titles, notes, strict=True):
        _show(panel, one.image)
        panel.set_title(title, fontsize=8, parse_math=False)
        panel.text(
            0.5, -0.03, note + short(one.name, 34), transform=panel.transAxes, ha="center",
            va="top", fontsize=6.5, color=MUTED, parse_math=False,
        )  # fmt: skip
    return figure


def _title(one: Picture) -> str:
    true = f"true {short(one.actual, 22)} {one.actual_probability:.2f}"
    if one.predicted == one.actual:
        return f"{true}\nloss {one.loss:.2f}"
    return f"{true}\n{short(one.predicted, 22)} {one.probability:.2f}"


def _show(panel: Any, image: _UInt8) -> None:
    panel.imshow(image, interpolation="nearest")
    panel.set_axis_off()
