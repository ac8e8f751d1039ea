"""The head: the last layer of a net, which gives the logits. It is found by structure, for any net.

In: a net. Out: the name of its head; the same net with another head; a head with small weights.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

HIDDEN = 512  # units of the mlp head: the number of features of ResNet-18 and -34
DROPOUT = 0.5


class MLPHead(nn.Sequential):
    """Linear, LeakyReLU, Dropout, Linear: [N, in_features] -> [N, num_classes].

    Args:
        in_features: Inputs of the first layer.
        num_classes: Outputs of the last one.
    """

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__(
            nn.Linear(in_features, HIDDEN),
            nn.LeakyReLU(),
            nn.Dropout(DROPOUT),
            nn.Linear(HIDDEN, num_classes),
        )


class ConvMLPHead(nn.Sequential):
    """`MLPHead` as 1x1 convolutions, for nets that average the logits over all positions.

    It maps [N, C, H, W] to [N, num_classes, H, W].

    Args:
        in_channels: Inputs of the first layer.
        num_classes: Outputs of the last one.
    """

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, HIDDEN, 1),
            nn.LeakyReLU(),
            nn.Dropout(DROPOUT),
            nn.Conv2d(HIDDEN, num_classes, 1),
        )


def head_name(model: nn.Module) -> str:
    """The dotted name of the head.

    Args:
        model: The plain net, neither compiled nor wrapped.

    Returns:
        The name of its mlp head, else of its last linear layer, else (SqueezeNet) of its last
        convolution.
    """
    for kinds in ((MLPHead, ConvMLPHead), (nn.Linear,), (nn.Conv2d,)):
        found = [name for name, module in model.named_modules() if isinstance(module, kinds)]
        if found:
            return found[-1]
    raise AssertionError(f"{type(model).__name__} has neither a linear layer nor a convolution")


def replace_head(model: nn.Module, kind: str, num_classes: int) -> None:
    """Put a new head, initialized as torch does, into a net, in place.

    Args:
        model: The plain net.
        kind: "linear" or "mlp".
        num_classes: The number of logits.
    """
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


@torch.no_grad()
def limit_head(model: nn.Module) -> None:
    """Initialize a linear head anew, as torch does, where its weights are a fifth larger.

    torchvision's rules for EfficientNet, MNASNet and Inception give a head of few classes weights
    of 8 to 20 times torch's standard deviation, 1 / sqrt(3 * inputs). The first loss is then far
    above ln(classes), and fine-tuning spends its first epochs on that. Smaller rules, such as the
    0.01 of MobileNet, stay.

    Args:
        model: The plain net, newly initialized.
    """
    head = model.get_submodule(head_name(model))
    if not isinstance(head, nn.Linear | nn.Conv2d) or head.weight.is_meta:
        return
    usual = (3 * head.weight[0].numel()) ** -0.5
    if float(head.weight.std()) > 1.2 * usual:
        head.reset_parameters()
