"""The head: the last layer of a net, which gives the logits. Found by structure, so it works for
every net there is.

In: a net. Out: the name of its head, or the same net with another one, for another number of
classes.
"""

from __future__ import annotations

from typing import cast

from torch import nn

HIDDEN = 512  # units of the mlp head: the number of features of ResNet-18 and -34
DROPOUT = 0.5


class MLPHead(nn.Sequential):
    """Linear, LeakyReLU, Dropout, Linear: [N, in_features] -> [N, num_classes]."""

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__(
            nn.Linear(in_features, HIDDEN),
            nn.LeakyReLU(),
            nn.Dropout(DROPOUT),
            nn.Linear(HIDDEN, num_classes),
        )


class ConvMLPHead(nn.Sequential):
    """The same as 1x1 convolutions, for nets that average the logits of all places: [N, C, H, W] ->
    [N, num_classes, H, W]."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, HIDDEN, 1),
            nn.LeakyReLU(),
            nn.Dropout(DROPOUT),
            nn.Conv2d(HIDDEN, num_classes, 1),
        )


def head_name(model: nn.Module) -> str:
    """The dotted name of the head: an mlp head, or else the last linear layer, or else (SqueezeNet)
    the last convolution."""
    for kinds in ((MLPHead, ConvMLPHead), (nn.Linear,), (nn.Conv2d,)):
        found = [name for name, module in model.named_modules() if isinstance(module, kinds)]
        if found:
            return found[-1]
    raise AssertionError(f"{type(model).__name__} has neither a linear layer nor a convolution")


def replace_head(model: nn.Module, kind: str, num_classes: int) -> None:
    """Puts a new head into the net, in place: kind "linear" or "mlp", newly initialized as torch
    does."""
    name = head_name(model)
    old = model.get_submodule(name)
    first = cast("nn.Linear | nn.Conv2d", old[0] if isinstance(old, nn.Sequential) else old)
    new: nn.Module
    if isinstance(first, nn.Conv2d):
        new = (
            ConvMLPHead(first.in_channels, num_classes)
            if kind == "mlp"
            else nn.Conv2d(first.in_channels, num_classes, 1)
        )
    else:
        new = (
            MLPHead(first.in_features, num_classes)
            if kind == "mlp"
            else nn.Linear(first.in_features, num_classes)
        )
    model.set_submodule(name, new)
