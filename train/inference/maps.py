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

_TOKEN_LAYERS = ("ln_1", "norm1")  # before attention, in torchvision's and timm's transformers


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


def _layer(model: nn.Module, image: Tensor) -> tuple[str, Callable[[Tensor], Tensor] | None]:
    """The last layer whose outputs have positions, and a function that makes them [N, C, H, W]."""
    found: list[tuple[str, Tensor]] = []

    def noting(name: str) -> Callable[..., None]:
        def note(_: nn.Module, __: object, output: Any) -> None:
            if isinstance(output, Tensor):
                found.append((name, output))

        return note

    named = [(name, module) for name, module in model.named_modules() if name]
    hooks = [module.register_forward_hook(noting(name)) for name, module in named]
    try:
        with torch.no_grad():
            model(image)
    finally:
        for hook in hooks:
            hook.remove()
    for name, output in reversed(found):
        if output.ndim == 4 and output.shape[2] * output.shape[3] > 1:
            return name, None
        if output.ndim == 3 and name.endswith(_TOKEN_LAYERS):
            return name, _places
    raise SlipformError(
        f"{type(model).__name__} has no layer whose outputs have places in the image: there are no"
        " class maps of it"
    )


def _places(tokens: Tensor) -> Tensor:
    """Tokens [N, T, C] as [N, C, H, W], without the tokens before those of the image."""
    side = math.isqrt(tokens.shape[1])
    return tokens[:, -side * side :].unflatten(1, (side, side)).permute(0, 3, 1, 2)
