"""The head of a net: the layers that give the logits, usually one.

In: a net. Out: the names of its head; the same net with another head; a head with small weights.
timm's nets name their head in `pretrained_cfg`. The head of other nets is found by their structure.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from slipform.pipelines.errors import ConfigError

__all__ = ["head_names", "limit_head", "replace_head"]

_HIDDEN = 512  # units of the mlp head: the number of features of ResNet-18 and -34
_DROPOUT = 0.5


class _MLPHead(nn.Sequential):
    """Linear, LeakyReLU, Dropout, Linear: [N, in_features] -> [N, num_classes]."""

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__(
            nn.Linear(in_features, _HIDDEN),
            nn.LeakyReLU(),
            nn.Dropout(_DROPOUT),
            nn.Linear(_HIDDEN, num_classes),
        )


class _ConvMLPHead(nn.Sequential):
    """`_MLPHead` as 1x1 convolutions, for nets that average the logits over all positions.

    [N, in_channels, H, W] -> [N, num_classes, H, W].
    """

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, _HIDDEN, 1),
            nn.LeakyReLU(),
            nn.Dropout(_DROPOUT),
            nn.Conv2d(_HIDDEN, num_classes, 1),
        )


def head_names(model: nn.Module) -> tuple[str, ...]:
    """The dotted names of the layers of the head.

    Args:
        model: The plain net, neither compiled nor wrapped.

    Returns:
        The classifiers that timm names; a net with a distillation token has two. Of other nets: the
        mlp head. Without one: the last linear layer. Without any linear layer, as in SqueezeNet:
        the last convolution. Nothing if a net of a user has none of them.
    """
    layers = dict(model.named_modules())
    named = (getattr(model, "pretrained_cfg", None) or {}).get("classifier") or ()
    known = tuple(
        name for name in ((named,) if isinstance(named, str) else named) if name in layers
    )
    if known:
        return known
    for kinds in ((_MLPHead, _ConvMLPHead), (nn.Linear,), (nn.Conv2d,)):
        found = [name for name, module in layers.items() if isinstance(module, kinds)]
        if found:
            return (found[-1],)
    return ()


def replace_head(model: nn.Module, kind: str, num_classes: int) -> None:
    """Replace the head of a net, in place, by a new one with torch's default initialization.

    Args:
        model: The plain net.
        kind: "linear" or "mlp".
        num_classes: The number of logits.

    Raises:
        ConfigError: The net has no head that is known.
    """
    names = head_names(model)
    if not names:
        raise ConfigError(
            f"{type(model).__name__} has neither a linear layer nor a convolution: its head cannot"
            " be replaced"
        )
    for name in names:
        old = model.get_submodule(name)
        first = cast("nn.Linear | nn.Conv2d", old[0] if isinstance(old, nn.Sequential) else old)
        new: nn.Module
        if isinstance(first, nn.Conv2d):
            new = (
                _ConvMLPHead(first.in_channels, num_classes)
                if kind == "mlp"
                else nn.Conv2d(first.in_channels, num_classes, 1)
            )
        else:
            new = (
                _MLPHead(first.in_features, num_classes)
                if kind == "mlp"
                else nn.Linear(first.in_features, num_classes)
            )
        model.set_submodule(name, new)


@torch.no_grad()
def limit_head(model: nn.Module) -> None:
    """Give a linear head torch's default initialization if its weights are too large.

    The usual standard deviation is that of torch's default, 1 / sqrt(3 * inputs). Dropout with
    probability p before the head multiplies the mean square of its inputs by 1 / (1 - p), so the
    usual deviation is then sqrt(1 - p) times that. The limit is 1.2 times the usual deviation.
    torchvision initializes the heads of EfficientNet, MNASNet and Inception with 8 to 20 times
    torch's deviation where there are few classes. The first loss is then far above ln(classes), and
    fine-tuning needs its first epochs to reduce it. VGG has 1.6 times the usual deviation. Heads
    with smaller weights, such as those of MobileNet (deviation 0.01), do not change.

    Args:
        model: The plain net, newly initialized.
    """
    for name in head_names(model):
        head = model.get_submodule(name)
        if not isinstance(head, nn.Linear | nn.Conv2d) or head.weight.is_meta:
            continue
        kept = (1 - _dropout_before(model, name)) ** 0.5
        usual = kept * (3 * head.weight[0].numel()) ** -0.5
        if float(head.weight.std()) > 1.2 * usual:
            head.reset_parameters()
            head.weight.mul_(kept)


def _dropout_before(model: nn.Module, name: str) -> float:
    """The probability of a dropout layer directly before a layer of an nn.Sequential; else 0."""
    parent, _, last = name.rpartition(".")
    layers = model.get_submodule(parent)
    if not isinstance(layers, nn.Sequential) or last == "0":
        return 0.0
    before = layers[int(last) - 1] if last.isdecimal() else None
    return before.p if isinstance(before, nn.Dropout) else 0.0
