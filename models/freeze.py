"""Which layers learn: freezing and unfreezing by name, training mode, parameter groups.

In: a net and names of its layers. Out: the same net with requires_grad set; groups for an
optimizer; counts.

A name is the dotted name of a layer or parameter ("features", "layer4", "layer4.1.bn2"), or "head",
"all_but_head", "none". Names are a list, a string with commas, or a list of such strings. Every
function takes the plain net, neither compiled nor wrapped by DDP.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from slipform.models.heads import head_name
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
    """Numbers of parameters; buffers do not count.

    Args:
        total: All of them.
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
    """The names of the parameters that layer names stand for.

    Args:
        model: The plain net.
        names: Layers; see the module's text.

    Raises:
        ConfigError: A name stands for no parameter.
    """
    every = [name for name, _ in model.named_parameters()]
    head = set(_below(every, head_name(model)))
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
            raise unknown(
                "layer",
                name,
                ["head", "all_but_head", "none", *dict.fromkeys(n.split(".")[0] for n in every)],
            )
        chosen |= found
    return chosen


def freeze(model: nn.Module, names: str | Iterable[str]) -> None:
    """Stop the named layers from learning; the others stay as they are.

    Args:
        model: The plain net; changed in place.
        names: Layers; see the module's text.

    Raises:
        ConfigError: A name stands for no parameter.
    """
    _set_requires_grad(model, select(model, names), False)


def unfreeze(model: nn.Module, names: str | Iterable[str] | None = None) -> None:
    """Let the named layers learn; the others stay as they are.

    The caller then calls `set_train_mode` and compiles or wraps the net anew.

    Args:
        model: The plain net; changed in place.
        names: Layers; see the module's text. Default: all.

    Raises:
        ConfigError: A name stands for no parameter.
    """
    chosen = (
        {name for name, _ in model.named_parameters()} if names is None else select(model, names)
    )
    _set_requires_grad(model, chosen, True)


def train_only(model: nn.Module, names: str | Iterable[str]) -> None:
    """Let the named layers learn and freeze all others.

    Args:
        model: The plain net; changed in place.
        names: Layers; see the module's text.

    Raises:
        ConfigError: A name stands for no parameter.
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
        freeze: These layers do not learn. Read only where train_layers is empty.
        train_layers: Only these layers learn.

    Raises:
        ConfigError: A name stands for no parameter.
    """
    if list(_split(train_layers)):
        train_only(model, train_layers)
    else:
        _set_requires_grad(model, select(model, freeze), False)


def set_train_mode(model: nn.Module, frozen_norm: str = "fixed") -> None:
    """Set training mode, except for BatchNorm layers whose own parameters are all frozen.

    These stay in evaluation mode: they use their running statistics and do not change them.

    Args:
        model: The plain net; changed in place.
        frozen_norm: One of `spec.FROZEN_NORMS`; with "batch" there is no exception.
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
) -> list[dict[str, Any]]:
    """Parameter groups for a torch optimizer.

    Frozen parameters are in the groups too: optimizers pass over what has no gradient, and the
    groups stay the same when layers are unfrozen during a run.

    Args:
        model: The plain net.
        lr: The learning rate.
        weight_decay: As torch's optimizers have it.
        head_lr: The head's learning rate. Default: lr.
        body_lr: That of all other layers. Default: lr.
        norm_bias_lr: That of BatchNorm's biases; Keller Jordan (2024) takes 64 times lr. Their
            weight decay is divided by the same factor, so that a step decays them as it does the
            other parameters. Default: they have no group of their own.
        decay_all: False: no weight decay for biases and normalization layers (parameters of one
            dimension), as He et al. (2019, "Bag of tricks", section 3.1) advise.

    Returns:
        Dictionaries of "name", "params", "lr" and "weight_decay", in the order of the parameters.
        Names are "body", "head", "norm_bias", with "_no_decay" where there is none. No group is
        empty.
    """
    head = set(_below([name for name, _ in model.named_parameters()], head_name(model)))
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
        if parameter.ndim <= 1 and not decay_all:
            part, decay = f"{part}_no_decay", 0.0
        group = groups.setdefault(
            part, {"name": part, "params": [], "lr": rate, "weight_decay": decay}
        )
        group["params"].append(parameter)
    return list(groups.values())


def _split(names: str | Iterable[str]) -> Iterable[str]:
    parts = [names] if isinstance(names, str) else names
    return [name.strip() for part in parts for name in part.split(",") if name.strip()]


def _below(every: Iterable[str], layer: str) -> list[str]:
    return [name for name in every if name == layer or name.startswith(layer + ".")]


def _set_requires_grad(model: nn.Module, names: set[str], learns: bool) -> None:
    for name, parameter in model.named_parameters():
        if name in names:
            parameter.requires_grad_(learns)
