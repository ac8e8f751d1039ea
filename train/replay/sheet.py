"""A sheet of the images of a batch, with names, labels, predictions and losses.

In: the batch of a step, and what a net says of it. Out: a PNG file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn import functional

from slipform.pipelines.batch import Batch, counted
from slipform.train.figures.draw import save, short
from slipform.train.figures.pictures import picture_grid, to_uint8
from slipform.train.replay.weights import Predictions

__all__ = ["Sheet", "draw_sheet", "is_right", "positions", "sheet_figure"]

_COLUMNS = 8
_LONGEST = 26  # characters of a line above an image
_RIGHT, _WRONG = "#2a7f3f", "#b3261e"


@dataclass(frozen=True)
class Sheet:
    """What a sheet shows.

    Attributes:
        title: The title.
        batch: The batch.
        normalize: The mean and the standard deviation of each channel, for values 0..1.
        classes: The names of the classes.
        names: The names of all samples of the split; None: there are none.
        said: What a net says of the batch; None: nothing is known.
    """

    title: str
    batch: Batch
    normalize: tuple[Sequence[float], Sequence[float]]
    classes: list[str]
    names: list[str] | None
    said: Predictions | None


def positions(batch: Batch, most: int, index: int | None) -> list[int]:
    """Which images of a batch are drawn.

    Args:
        batch: The batch.
        most: The number of images.
        index: The sample that must be among them; it comes first. None: the first images.
    """
    indices = batch.indices.tolist()
    first = [] if index is None else [i for i, one in enumerate(indices) if one == index]
    return (first + [i for i in range(len(indices)) if i not in first])[:most]


def draw_sheet(out: Path, name: str, sheet: Sheet, at: list[int]) -> Path:
    """Write `sheet_figure` as a PNG file.

    Args:
        out: The folder.
        name: The name of the file.
        sheet: What it shows.
        at: The positions of the images to draw.

    Returns:
        The path of the file.
    """
    figure = sheet_figure(sheet, at)
    figure.suptitle(sheet.title, fontsize=10, parse_math=False)
    return save(figure, out, name)


def sheet_figure(sheet: Sheet, at: list[int]) -> Any:
    """Draw images of a batch, each with its index, label, prediction and loss.

    The frame of an image is green if the prediction is right, see `is_right`, and else red.

    Args:
        sheet: What it shows.
        at: The positions of the images to draw.

    Returns:
        The matplotlib figure.
    """
    figure, panels = picture_grid(len(at), _COLUMNS, width=1.9, height=2.6)
    images = to_uint8(sheet.batch.images[at], sheet.normalize)
    for panel, image, i in zip(panels, images, at, strict=True):
        panel.imshow(image, interpolation="nearest")
        panel.set_xticks([])
        panel.set_yticks([])
        # "$5 to $10" is no formula.
        panel.set_title("\n".join(_lines(sheet, i)), fontsize=7, parse_math=False)
        shares = _shares(sheet, i)
        if sheet.said is not None and shares is not None and bool(shares.any()):
            right = is_right(shares, int(sheet.said.predicted[i]))
            _frame(panel, _RIGHT if right else _WRONG)
    return figure


def is_right(shares: Tensor, predicted: int) -> bool:
    """Whether a predicted class is one of those with the largest share in the target.

    An image with several labels has several such classes.

    Args:
        shares: The target, float32 [C].
        predicted: The class.
    """
    return bool(shares[predicted] >= shares.max())


def _lines(sheet: Sheet, i: int) -> list[str]:
    index, shares = int(sheet.batch.indices[i]), _shares(sheet, i)
    lines = [short(f"{index} {sheet.names[index]}" if sheet.names else str(index), _LONGEST)]
    if shares is None:
        lines.append("unreadable")
    else:
        lines.append(_target(shares, sheet.classes))
    if sheet.said is not None:
        predicted = sheet.classes[int(sheet.said.predicted[i])]
        lines.append(short(f"-> {predicted}, {float(sheet.said.losses[i]):.3g}", _LONGEST))
    return lines


def _target(shares: Tensor, classes: list[str]) -> str:
    """The classes of an image, with their shares if these are not 1."""
    shown = shares.argsort(descending=True, stable=True)[: int((shares > 0).sum())].tolist()
    if not shown:
        return "no label"
    most = _LONGEST if len(shown) == 1 else _LONGEST // 2 - 3
    texts = [
        short(classes[k], most) if float(shares[k]) == 1 else f"{shares[k]:.2f} {classes[k]}"
        for k in shown[:2]
    ]
    return " + ".join(short(text, most + 5) for text in texts) + (" .." if len(shown) > 2 else "")


def _shares(sheet: Sheet, i: int) -> Tensor | None:
    """The target of an image, float32 [C]. None: it could not be read."""
    batch = sheet.batch
    if not bool(counted(batch.labels)[i]):
        return None

    def dense(labels: Tensor) -> Tensor:
        if labels.ndim == 2:
            return labels[i].float().cpu()
        return functional.one_hot(labels[i].cpu(), len(sheet.classes)).float()

    own = dense(batch.labels)
    if batch.mix is None:
        return own
    weight = float(batch.mix.weight[i])
    return weight * own + (1 - weight) * dense(batch.mix.labels)


def _frame(panel: Any, color: str) -> None:
    for side in panel.spines.values():
        side.set_color(color)
        side.set_linewidth(2)
