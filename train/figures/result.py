"""Figures of a result: accuracy per class, confusion matrix, the first layer's kernels and outputs.

In: an evaluation, a model, an image. Out: PNG files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from slipform.pipelines.errors import printable
from slipform.train.figures.draw import new_figure, save
from slipform.train.step.metrics import Evaluation

__all__ = [
    "confusion", "draw_result", "first_convolution", "first_layer", "per_class", "tiled",
]  # fmt: skip


def draw_result(
    out: Path, model: nn.Module, image: Tensor, result: Evaluation, classes: list[str]
) -> None:
    """Draw all figures of a result: per class, confusion matrix, and the first layer.

    Args:
        out: The folder of the figures.
        model: The net.
        image: A normalized image, float [1, 3, S, S], on the device of the net.
        result: The result of an evaluation.
        classes: The names of the classes.
    """
    per_class(out, result, classes)
    confusion(out, result, classes)
    first_layer(out, model, image)


def per_class(out: Path, result: Evaluation, classes: list[str]) -> Path:
    """Draw per_class.png: a bar for the accuracy on each class.

    Args:
        out: The folder of the figure.
        result: The result of an evaluation.
        classes: The names of the classes.

    Returns:
        The path of the figure.
    """
    figure, axes = new_figure(1, width=max(5.0, 0.18 * len(classes)))
    axes.bar(range(len(classes)), result.per_class, color="tab:blue")
    axes.axhline(
        result.top1,
        color="0.3",
        linewidth=0.8,
        linestyle="--",
        label=f"all images: {result.top1:.3f}",
    )
    axes.set(ylim=(0, 1), title="accuracy per class")
    _name_ticks(axes.xaxis, classes, rotation=90)
    figure.legend(loc="outside lower right")  # not over the bars
    return save(figure, out, "per_class.png")


def confusion(out: Path, result: Evaluation, classes: list[str]) -> Path:
    """Draw confusion.png: for each true class (row), the share of each predicted class (column).

    Args:
        out: The folder of the figure.
        result: The result of an evaluation.
        classes: The names of the classes.

    Returns:
        The path of the figure.
    """
    side = max(4.5, 0.13 * len(classes))
    figure, axes = new_figure(1, width=side + 1, height=side)
    shares = result.confusion / result.confusion.sum(1, keepdim=True).clamp(min=1)
    figure.colorbar(
        axes.imshow(shares.numpy(), vmin=0, vmax=1, cmap="viridis"), ax=axes, shrink=0.8
    )
    _name_ticks(axes.xaxis, classes, rotation=90)
    _name_ticks(axes.yaxis, classes, rotation=0)
    axes.set(xlabel="predicted", ylabel="true", title="share of each true class")
    return save(figure, out, "confusion.png")


def first_layer(out: Path, model: nn.Module, image: Tensor) -> list[Path]:
    """Draw kernels.png and first_outputs.png of the first convolution of a net.

    Args:
        out: The folder of the figures.
        model: The net.
        image: A normalized image, float [1, 3, S, S], on the device of the net.

    Returns:
        The paths of the figures; none if the net has no convolution.
    """
    found = first_convolution(model, image)
    if found is None:
        return []
    kernels, outputs = found
    return [
        _tiles(out, kernels, "kernels.png", "kernels of the first layer"),
        _tiles(out, outputs[:, None], "first_outputs.png", "outputs of the first layer, one image"),
    ]


def first_convolution(model: nn.Module, image: Tensor) -> tuple[Tensor, Tensor] | None:
    """Kernels and outputs of the first convolution that a net calls.

    Args:
        model: The net.
        image: A normalized image, float [1, 3, S, S], on the device of the net.

    Returns:
        The kernels, float32 [K, 3 or 1, H, W], and the outputs for the image, float32 [K, H, W],
        on the CPU; None if the net has no convolution.
    """
    seen: list[tuple[Tensor, Tensor]] = []

    def note(layer: nn.Module, _: object, outputs: Tensor) -> None:
        seen.append((layer.weight.detach().float().cpu(), outputs[0].float().cpu()))  # type: ignore[operator]

    # A convolution has a weight of four dimensions. Its class need not be nn.Conv2d: the whitening
    # layer of `fast` is a convolution, too.
    filters = [
        layer
        for layer in model.modules()
        if getattr(getattr(layer, "weight", None), "ndim", 0) == 4
    ]
    hooks = [layer.register_forward_hook(note) for layer in filters]
    try:
        with torch.no_grad():
            model(image.to(next(model.parameters()).dtype))
    finally:
        for hook in hooks:
            hook.remove()
    if not seen:
        return None
    kernels, outputs = seen[0]
    return kernels if kernels.shape[1] == 3 else kernels.mean(1, keepdim=True), outputs


def tiled(images: Tensor) -> Any:
    """Images in a grid, each scaled to its own range.

    Args:
        images: float [N, 1 or 3, H, W].

    Returns:
        float32 [H, W, 3], in 0..1.
    """
    from torchvision.utils import make_grid

    grid = make_grid(
        images,
        nrow=max(1, round(len(images) ** 0.5)),
        padding=1,
        normalize=True,
        scale_each=True,
        pad_value=1.0,
    )
    return grid.permute(1, 2, 0).numpy()


def _tiles(out: Path, images: Tensor, name: str, title: str) -> Path:
    figure, axes = new_figure(1, width=6, height=6)
    axes.imshow(tiled(images), interpolation="nearest")
    axes.set_axis_off()
    axes.set_title(title)
    return save(figure, out, name)


def _name_ticks(axis: Any, classes: list[str], rotation: float) -> None:
    """Write the names of the classes at an axis, in a small font if there are many.

    More than 200 names would be unreadable and are left out.
    """
    shown = range(len(classes)) if len(classes) <= 200 else []
    axis.set_ticks(
        shown,
        [printable(classes[i]) for i in shown],
        rotation=rotation,
        fontsize=8 if len(classes) <= 30 else 5,
        parse_math=False,  # "$5 to $10" is no formula
    )
