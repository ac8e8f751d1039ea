"""Class activation maps: the parts of an image that raise the score of a class.

In: a net, images, a class for each. Out: a map for each image. The package torchcam computes them
(Grad-CAM, Selvaraju et al., 2017); it is in the extra `judge`.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slipform.pipelines.errors import SlipformError

__all__ = ["class_maps", "have_maps"]

_Reshape = Callable[[Tensor], Tensor]  # outputs of a layer as [N, C, H, W]


def have_maps() -> bool:
    """Whether torchcam is installed."""
    return importlib.util.find_spec("torchcam") is not None


def class_maps(model: nn.Module, images: Tensor, classes: Sequence[int]) -> Tensor:
    """Maps of the parts of images that raise the scores of classes.

    Args:
        model: The net, in evaluation mode.
        images: Normalized images, float [N, 3, S, S], on the device of the net.
        classes: N classes.

    Returns:
        float32 [N, S, S] on the CPU, each from 0 to 1. All 0 if no part raises the score.

    Raises:
        SlipformError: torchcam is not installed, or no layer of the net has positions.
    """
    if not have_maps():
        raise SlipformError('class maps need torchcam. Install it: pip install "slipform[judge]"')
    from torchcam.methods import GradCAM

    images = images.detach().float().clone()
    layer, reshape = _layer(model, images[:1])
    with torch.enable_grad(), GradCAM(model, layer, reshape_transform=reshape) as cam:
        logits = model(images.requires_grad_())
        (maps,) = cam(list(classes), logits, normalized=False)
    model.zero_grad(set_to_none=True)
    maps = maps.detach().float().nan_to_num().clamp(min=0)
    most = maps.amax((1, 2), keepdim=True)
    maps = torch.where(most > 0, maps / most, 0.0)
    sized = F.interpolate(maps[:, None], images.shape[2:], mode="bilinear", align_corners=False)
    return sized[:, 0].clamp(0, 1).cpu()


def _layer(model: nn.Module, image: Tensor) -> tuple[str, _Reshape]:
    """The last layer whose outputs have places that the logits depend on, and how they lie.

    The logits of a transformer with a class token do not depend on the other tokens after the last
    attention.
    """
    found: list[tuple[str, Tensor, _Reshape]] = []

    def noting(name: str) -> Callable[..., None]:
        def note(layer: nn.Module, _: object, output: Any) -> None:
            if isinstance(output, Tensor) and (reshape := _places(model, layer, output)):
                found.append((name, output, reshape))

        return note

    hooks = [
        module.register_forward_hook(noting(name))
        for name, module in model.named_modules()
        if name and not _in_attention(model, name)
    ]
    try:
        with torch.enable_grad():
            logits = model(image.clone().requires_grad_())
    finally:
        for hook in hooks:
            hook.remove()
    if not found:
        raise SlipformError(
            f"{type(model).__name__} has no layer whose outputs have places in the image: there are"
            " no class maps of it"
        )
    score = (logits * torch.linspace(1, 2, logits.shape[1], device=logits.device)).sum()
    outputs = [output for _, output, _ in found]
    gradients = torch.autograd.grad(score, outputs, allow_unused=True)
    for (name, _, reshape), gradient in reversed(list(zip(found, gradients, strict=True))):
        if gradient is not None and reshape(gradient).any():
            return name, reshape
    return found[-1][0], found[-1][2]  # the logits depend on nothing: the maps are 0


def _in_attention(model: nn.Module, name: str) -> bool:
    """Whether a layer is a part of attention: its outputs are those of heads, or weights."""
    parents = name.split(".")[:-1]
    return any(
        "attention" in type(model.get_submodule(".".join(parents[:depth]))).__name__.lower()
        for depth in range(1, len(parents) + 1)
    )


def _places(model: nn.Module, layer: nn.Module, output: Tensor) -> _Reshape | None:
    """How to make the outputs of a layer [N, C, H, W]; None if they have no places.

    Images are square, so H and W are equal.
    """
    if output.ndim == 4 and output.shape[2] == output.shape[3] > 1:
        return lambda outputs: outputs
    if output.ndim == 4 and output.shape[1] == output.shape[2] > 1:  # channels last
        return lambda outputs: outputs.permute(0, 3, 1, 2)
    if output.ndim != 3 or not isinstance(layer, nn.LayerNorm):
        return None
    # Tokens [N, T, C]: a normalization is over the channels. Those of the image come last.
    side = math.isqrt(output.shape[1])
    count = output.shape[1] - getattr(model, "num_prefix_tokens", output.shape[1] - side * side)
    side = math.isqrt(count) if count > 0 else 0
    if side < 2 or side * side != count:
        return None
    return lambda tokens: tokens[:, -count:].unflatten(1, (side, side)).permute(0, 3, 1, 2)
