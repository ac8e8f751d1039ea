"""Figures of a result: accuracy per class, confusion, the first layer's kernels and outputs.

In: an evaluation, a model, an image. Out: PNG files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from slipform.train.figures.classes import confusion_figure, pairs_figure, per_class_figure
from slipform.train.figures.draw import new_figure, save
from slipform.train.figures.labels import per_label
from slipform.train.step.label_metrics import LabelEvaluation
from slipform.train.step.metrics import Evaluation

__all__ = [
    "confusion", "draw_result", "first_convolution", "first_layer", "per_class", "tiled",
]  # fmt: skip


def draw_result(
    out: Path,
    model: nn.Module,
    image: Tensor,
    result: Evaluation | LabelEvaluation,
    classes: list[str],
) -> None:
    """Draw all figures of a result: per class, confusion, and the first layer.

    Args:
        out: The folder of the figures.
        model: The net.
        image: A normalized image, float [1, 3, S, S], on the device of the net.
        result: The result of an evaluation.
        classes: The names of the classes.
    """
    if isinstance(result, LabelEvaluation):
        per_label(out, result, classes)
    else:
        per_class(out, result, classes)
        confusion(out, result, classes)
    first_layer(out, model, image)


def per_class(out: Path, result: Evaluation, classes: list[str]) -> Path:
    """Draw per_class.png: the accuracy on each class, or on the worst of many classes.

    Args:
        out: The folder of the figure.
        result: The result of an evaluation.
        classes: The names of the classes.

    Returns:
        The path of the figure.
    """
    return save(per_class_figure(result.confusion.numpy(), classes), out, "per_class.png")


def confusion(out: Path, result: Evaluation, classes: list[str]) -> list[Path]:
    """Draw confusion.png, the confusion matrix, and confused_pairs.png.

    Args:
        out: The folder of the figures.
        result: The result of an evaluation.
        classes: The names of the classes.

    Returns:
        The paths of the figures; without an error of the model there are no pairs.
    """
    counts = result.confusion.numpy()
    drawn = [save(confusion_figure(counts, classes), out, "confusion.png")]
    if (pairs := pairs_figure(counts, classes)) is not None:
        drawn.append(save(pairs, out, "confused_pairs.png"))
    return drawn


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
