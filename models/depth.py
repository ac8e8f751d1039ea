"""The depth of each parameter of a net, and learning rates that decrease toward the input.

In: a net and a factor. Out: a factor for each parameter. timm's nets group their own parameters
(`group_matcher`). The layers of other nets are their blocks, in order.

Clark et al. (2020, "ELECTRA") and Bao et al. (2022, "BEiT") fine-tune with such rates.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from slipform.models.heads import head_names

__all__ = ["layer_depths", "layer_scales"]

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.LocalResponseNorm)
_LARGE = 0.5  # share of the parameters below the head; a module with more is not a single layer


def layer_scales(model: nn.Module, decay: float) -> dict[str, float]:
    """A factor of the learning rate for each parameter.

    The deepest layer, which is the head, has the factor 1, the layer before it `decay`, the one
    before that `decay` squared, and so on.

    Args:
        model: The plain net.
        decay: The factor between two layers, above 0 and up to 1.

    Returns:
        Name of the parameter -> factor, in the order of the parameters.
    """
    depths = layer_depths(model)
    deepest = max(depths.values())
    return {name: decay ** (deepest - depth) for name, depth in depths.items()}


def layer_depths(model: nn.Module) -> dict[str, int]:
    """The number of the layer that each parameter belongs to; 0 is the layer of the input.

    A net with timm's `group_matcher` has timm's layers. In other nets a layer is a module inside
    the sequences of the net, such as a convolution of VGG or a block of ResNet. A normalization
    layer belongs to the layer before it. Parameters of the net itself, such as a class token,
    belong to the first layer, and the head is the last one.

    Args:
        model: The plain net.

    Returns:
        Name of the parameter -> number of its layer, in the order of the parameters.
    """
    names = [name for name, _ in model.named_parameters()]
    if callable(getattr(model, "group_matcher", None)):
        from timm.models import group_parameters

        matcher = model.group_matcher(coarse=False)  # type: ignore[operator]
        found = group_parameters(model, matcher, reverse=True)
        deepest = max(found.values())
        return {name: found.get(name, deepest) for name in names}
    heads = head_names(model)
    body = sum(p.numel() for n, p in model.named_parameters() if not _is_below(n, heads))
    layers: list[str] = []
    depths: dict[str, int] = {}
    for name, module in _layers(model, "", heads, _LARGE * body):
        if not (layers and isinstance(module, _NORMS)):
            layers.append(name)
        depths[name] = len(layers) - 1
    return {
        name: len(layers)
        if _is_below(name, heads)
        else next((depth for layer, depth in depths.items() if _is_below(name, (layer,))), 0)
        for name in names
    }


def _layers(
    module: nn.Module, name: str, heads: tuple[str, ...], large: float
) -> Iterator[tuple[str, nn.Module]]:
    """The layers with parameters of a module, without the head, in order."""
    for key, child in module.named_children():
        path = f"{name}.{key}" if name else key
        num = sum(parameter.numel() for parameter in child.parameters())
        if not num or path in heads:
            continue
        holds_head = any(_is_below(head, (path,)) for head in heads)
        if list(child.children()) and (holds_head or num > large or _is_sequence(child)):
            yield from _layers(child, path, heads, large)
        else:
            yield path, child


def _is_sequence(module: nn.Module) -> bool:
    """Whether it is a container of layers. A convolution with its normalization is one layer."""
    nested = any(list(child.children()) for child in module.children())
    return type(module) in _CONTAINERS or (isinstance(module, _CONTAINERS) and nested)


def _is_below(name: str, layers: tuple[str, ...]) -> bool:
    return any(name == layer or name.startswith(f"{layer}.") for layer in layers)
