"""Freezing layers by name, training mode, and parameter groups.

In: a net and names of its layers. Out: the same net with requires_grad set; groups for an
optimizer; counts.

A name is the dotted name of a layer or parameter ("features", "layer4", "layer4.1.bn2"), or "head",
"all_but_head", "none". Names are a list, a string with commas, or a list of such strings. Every
function takes the plain net, neither compiled nor wrapped by DDP.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from slipform.models.depth import layer_scales
from slipform.models.heads import head_names
from slipform.pipelines.errors import unknown

__all__ = [
    "Counts",
    "apply",
    "count",
    "freeze",
    "parameter_groups",
    "select",
    "set_train_mode",
    "train_only",
    "unfreeze",
]


@dataclass(frozen=True)
class Counts:
    """Numbers of parameters, without buffers.

    Attributes:
        total: All parameters.
        trainable: Those with requires_grad.
    """

    total: int
    trainable: int


def count(model: nn.Module) -> Counts:
    """Count a net's parameters.

    Args:
        model: The plain net.
    """
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return Counts(sum(size for size, _ in sizes), sum(size for size, learns in sizes if learns))


def select(model: nn.Module, names: str | Iterable[str]) -> set[str]:
    """The names of the parameters of the named layers.

    Args:
        model: The plain net.
        names: Layers; see the module's docstring.

    Raises:
        ConfigError: A name matches no parameter.
    """
    every = [name for name, _ in model.named_parameters()]
    head = _head(model)
    chosen: set[str] = set()
    for name in _split(names):
        if name == "none":
            continue
        found = (
            head
            if name == "head"
            else set(every) - head
            if name == "all_but_head"
            else set(_below(every, name))
        )
        if not found:
            known = [*(["head"] if head else []), "all_but_head", "none"]
            raise unknown("layer", name, [*known, *dict.fromkeys(n.split(".")[0] for n in every)])
        chosen |= found
    return chosen


def freeze(model: nn.Module, names: str | Iterable[str]) -> None:
    """Freeze the named layers. The other layers do not change.

    Args:
        model: The plain net; changed in place.
        names: Layers; see the module's docstring.

    Raises:
        ConfigError: A name matches no parameter.
    """
    _set_requires_grad(model, select(model, names), False)


def unfreeze(model: nn.Module, names: str | Iterable[str] | None = None) -> None:
    """Unfreeze the named layers. The other layers do not change.

    The caller then calls `set_train_mode`, and compiles and wraps the net again.

    Args:
        model: The plain net; changed in place.
        names: Layers; see the module's docstring. Default: all.

    Raises:
        ConfigError: A name matches no parameter.
    """
    chosen = (
        {name for name, _ in model.named_parameters()} if names is None else select(model, names)
    )
    _set_requires_grad(model, chosen, True)


def train_only(model: nn.Module, names: str | Iterable[str]) -> None:
    """Unfreeze the named layers and freeze all others.

    Args:
        model: The plain net; changed in place.
        names: Layers; see the module's docstring.

    Raises:
        ConfigError: A name matches no parameter.
    """
    chosen = select(model, names)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in chosen)


def apply(
    model: nn.Module, *, freeze: str | Iterable[str] = (), train_layers: str | Iterable[str] = ()
) -> None:
    """Freeze layers as the [model] section of a recipe says.

    Args:
        model: The plain net; changed in place.
        freeze: Layers to freeze. Ignored if train_layers names any.
        train_layers: The only layers that learn. Default: all but those in freeze.

    Raises:
        ConfigError: A name matches no parameter.
    """
    if list(_split(train_layers)):
        train_only(model, train_layers)
    else:
        _set_requires_grad(model, select(model, freeze), False)


def set_train_mode(model: nn.Module, frozen_norm: str = "fixed") -> None:
    """Set training mode, except for BatchNorm layers whose own parameters are all frozen.

    Those are set to evaluation mode: they use their running statistics and do not change them.

    Args:
        model: The plain net; changed in place.
        frozen_norm: "fixed", or "batch": frozen BatchNorm layers are in training mode, too.
    """
    model.train()
    if frozen_norm == "batch":
        return
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            learns = [parameter.requires_grad for parameter in module.parameters(recurse=False)]
            if learns and not any(learns):
                module.eval()


def parameter_groups(
    model: nn.Module,
    *,
    lr: float,
    weight_decay: float = 0.0,
    head_lr: float | None = None,
    body_lr: float | None = None,
    norm_bias_lr: float | None = None,
    decay_all: bool = True,
    layer_decay: float = 1.0,
) -> list[dict[str, Any]]:
    """Parameter groups for a torch optimizer.

    The groups contain frozen parameters, too. Optimizers skip parameters without a gradient, and
    the groups stay the same when a run unfreezes layers.

    Args:
        model: The plain net.
        lr: The learning rate.
        weight_decay: The weight decay, as in torch's optimizers.
        head_lr: The learning rate of the head. Default: lr.
        body_lr: The learning rate of all other layers. Default: lr.
        norm_bias_lr: The learning rate of BatchNorm's biases. Keller Jordan (2024) uses 64 times
            lr. Their weight decay is divided by the same factor, so that a step decays them as
            much as other parameters. Default: they have no group of their own.
        decay_all: Whether biases and normalization layers (parameters with one dimension) have
            weight decay. He et al. (2019, "Bag of tricks", section 3.1) advise against it. False
            also exempts what the net's method no_weight_decay names, such as position embeddings.
        layer_decay: Factor of the learning rate from a layer to the layer before it; see
            `depth.layer_scales`. 1: all layers have the same rate.

    Returns:
        Dictionaries of "name", "params", "lr" and "weight_decay", in the order of the parameters.
        The names are "body", "head" and "norm_bias", followed by "_no_decay" where decay_all is
        False and the parameters have one dimension, and by the number of the layer where
        layer_decay is not 1. No group is empty.
    """
    head = _head(model)
    exempt = () if decay_all else _exempt(model)
    scales = layer_scales(model, layer_decay) if layer_decay != 1 else {}
    numbers = {scale: number for number, scale in enumerate(sorted(set(scales.values())))}
    norm_biases = {
        f"{name}.bias" for name, module in model.named_modules() if isinstance(module, _BatchNorm)
    }
    rates = {"body": lr if body_lr is None else body_lr, "head": lr if head_lr is None else head_lr}
    groups: dict[str, dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        part = "head" if name in head else "body"
        rate, decay = rates[part], weight_decay
        if norm_bias_lr is not None and name in norm_biases:
            part, rate = "norm_bias", norm_bias_lr
            decay = weight_decay * rates["body"] / norm_bias_lr if norm_bias_lr else 0.0
        if not decay_all and (parameter.ndim <= 1 or any(fnmatch(name, p) for p in exempt)):
            part, decay = f"{part}_no_decay", 0.0
        if scales:
            part, rate = f"{part}_{numbers[scales[name]]}", rate * scales[name]
        group = groups.setdefault(
            part, {"name": part, "params": [], "lr": rate, "weight_decay": decay}
        )
        group["params"].append(parameter)
    return list(groups.values())


def _head(model: nn.Module) -> set[str]:
    every = [name for name, _ in model.named_parameters()]
    return {name for layer in head_names(model) for name in _below(every, layer)}


def _exempt(model: nn.Module) -> Iterable[str]:
    """Names of parameters, or patterns of names, that a net of timm exempts from weight decay."""
    named: Any = getattr(model, "no_weight_decay", None)
    return named() if callable(named) else ()


def _split(names: str | Iterable[str]) -> Iterable[str]:
    parts = [names] if isinstance(names, str) else names
    return [name.strip() for part in parts for name in part.split(",") if name.strip()]


def _below(every: Iterable[str], layer: str) -> list[str]:
    return [name for name in every if name == layer or name.startswith(layer + ".")]


def _set_requires_grad(model: nn.Module, names: set[str], learns: bool) -> None:
    for name, parameter in model.named_parameters():
        if name in names:
            parameter.requires_grad_(learns)
