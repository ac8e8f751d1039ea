"""A sheet of the images of a batch, with names, labels, predictions and losses.

In: the batches of a step, and what a net says of them. Out: a PNG file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.nn import functional

from slipform.pipelines.batch import Batch, counted
from slipform.pipelines.errors import printable
from slipform.train.figures.draw import new_figure, save
from slipform.train.replay.weights import Answers

__all__ = ["draw_sheet", "positions", "to_uint8"]

_COLUMNS = 8
_LONGEST = 26  # characters of a line under an image


def to_uint8(batch: Batch, mean: Sequence[float], std: Sequence[float]) -> npt.NDArray[np.uint8]:
    """The images of a batch as people see them: the normalization is undone.

    Args:
        batch: Its images are [N, 3, S, S].
        mean: The mean of each channel that was subtracted, for values 0..1.
        std: The standard deviation of each channel.

    Returns:
        uint8 [N, S, S, 3].
    """
    images = batch.images.float().cpu().permute(0, 2, 3, 1).numpy()
    shown = (images * np.asarray(std) + np.asarray(mean)) * 255
    found: npt.NDArray[np.uint8] = np.clip(np.rint(shown), 0, 255).astype(np.uint8)
    return found


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


def draw_sheet(
    out: Path,
    name: str,
    title: str,
    images: npt.NDArray[np.uint8],
    batch: Batch,
    at: list[int],
    classes: list[str],
    names: list[str] | None,
    said: Answers | None,
) -> Path:
    """Draw images of a batch, each with its index, label, prediction and loss.

    Args:
        out: The folder.
        name: The name of the file.
        title: The title of the sheet.
        images: uint8 [N, S, S, 3], all images of the batch.
        batch: The batch.
        at: The positions of the images to draw.
        classes: The names of the classes.
        names: The names of all samples of the split; None: there are none.
        said: What a net says of the batch; None: nothing is known.

    Returns:
        The path of the file.
    """
    rows = -(-len(at) // _COLUMNS)
    figure, axes = new_figure(min(len(at), _COLUMNS), rows, width=1.9, height=2.6)
    figure.suptitle(title, fontsize=10)
    every, counts = np.atleast_1d(axes).ravel(), counted(batch.labels)
    for axis, i in zip(every, at, strict=False):
        axis.imshow(images[i], interpolation="nearest")
        axis.set_title("\n".join(_lines(i, batch, classes, names, said)), fontsize=7)
        if said is not None and bool(counts[i]):
            right = int(said.predicted[i]) == int(_shares(batch, i, len(classes)).argmax())
            _frame(axis, "#2a7f3f" if right else "#b3261e")
    for axis in every:
        axis.set_xticks([])
        axis.set_yticks([])
    for axis in every[len(at) :]:
        axis.axis("off")
    return save(figure, out, name)


def _lines(
    i: int, batch: Batch, classes: list[str], names: list[str] | None, said: Answers | None
) -> list[str]:
    index = int(batch.indices[i])
    lines = [_short(f"{index} {names[index]}" if names else str(index))]
    if bool(counted(batch.labels)[i]):
        shares = _shares(batch, i, len(classes))
        shown = shares.argsort(descending=True)[: int((shares > 0).sum())].tolist()
        if len(shown) == 1 and float(shares[shown[0]]) == 1:
            lines.append(_short(classes[shown[0]]))
        else:
            most = _LONGEST // 2 - 3
            texts = [f"{float(shares[k]):.2f} {_short(classes[k], most)}" for k in shown[:2]]
            lines.append(" + ".join(texts) + (" .." if len(shown) > 2 else ""))
    else:
        lines.append("unreadable")
    if said is not None:
        lines.append(_short(f"-> {classes[int(said.predicted[i])]}, {float(said.losses[i]):.3g}"))
    return lines


def _shares(batch: Batch, i: int, num_classes: int) -> Tensor:
    """The target of an image: float32 [C]."""

    def dense(labels: Tensor) -> Tensor:
        if labels.ndim == 2:
            return labels[i].float().cpu()
        return functional.one_hot(labels[i].cpu(), num_classes).float()

    own = dense(batch.labels)
    if batch.mix is None:
        return own
    weight = float(batch.mix.weight[i])
    return weight * own + (1 - weight) * dense(batch.mix.labels)


def _short(text: str, most: int = _LONGEST) -> str:
    """Both ends of a long text."""
    text = printable(text)
    if len(text) > most:
        half = most // 2
        text = f"{text[: half - 1]}..{text[-half + 1 :]}"
    return text.replace("$", r"\$")


def _frame(axis: Any, color: str) -> None:
    for side in axis.spines.values():
        side.set_color(color)
        side.set_linewidth(2)
