"""Which layers learn: freezing and unfreezing by name, training mode that keeps frozen BatchNorm
still, parameter groups.

In: a net and names of its layers. Out: the same net, its parameters' requires_grad set; groups for
an optimizer; counts.

A name is a layer's or parameter's dotted name ("features", "layer4", "layer4.1.bn2"), or "head",
"all_but_head", "none". Names come as a list, a string with commas, or both. All functions take the
plain module, not one wrapped by DDP or torch.compile.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from slipform.models.heads import head_name
from slipform.pipelines.errors import unknown


@dataclass(frozen=True)
class Counts:
    """Numbers of parameters."""

    total: int
    trainable: int


def count(model: nn.Module) -> Counts:
    """How many parameters there are, and how many of them learn. Buffers do not count."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return Counts(sum(size for size, _ in sizes), sum(size for size, learns in sizes if learns))


def select(model: nn.Module, names: str | Iterable[str]) -> set[str]:
    """The names of all parameters that the given names mean. Raises ConfigError for a name without
    any parameter."""
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
    """Stops the named layers from learning; the others stay as they are."""
    _set_requires_grad(model, select(model, names), False)


def unfreeze(model: nn.Module, names: str | Iterable[str] | None = None) -> None:
    """Lets the named layers learn, or all. Afterwards: set_train_mode, and reset what was compiled
    or wrapped."""
    chosen = (
        {name for name, _ in model.named_parameters()} if names is None else select(model, names)
    )
    _set_requires_grad(model, chosen, True)


def train_only(model: nn.Module, names: str | Iterable[str]) -> None:
    """Only the named layers learn."""
    chosen = select(model, names)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in chosen)


def apply(
    model: nn.Module, *, freeze: str | Iterable[str] = (), train_layers: str | Iterable[str] = ()
) -> None:
    """As a configuration says: train only train_layers where it is given, else freeze what `freeze`
    names."""
    if list(_split(train_layers)):
        train_only(model, train_layers)
    else:
        _set_requires_grad(model, select(model, freeze), False)


def set_train_mode(model: nn.Module, frozen_norm: str = "fixed") -> None:
    """model.train(), except that BatchNorm whose own parameters are all frozen stays in evaluation
    mode.

    So a frozen layer computes what it computed when it was trained, and its running statistics do
    not move.

    Args:
        model: Changed in place.
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
    """Groups for a torch optimizer: {"name", "params", "lr", "weight_decay"}, in a fixed order.

    The groups are "body" and "head", whose rates are body_lr and head_lr where given, else lr.
    norm_bias_lr: BatchNorm's biases become the group "norm_bias" with that rate (Keller Jordan,
    2024, takes 64 times lr) and so much less weight decay that a step decays them as it does the
    others. decay_all = False: biases and normalization layers (parameters of one dimension) become
    "body_no_decay" and "head_no_decay", without weight decay, as He et al. (2019, "Bag of tricks",
    section 3.1) advise. Frozen parameters are in the groups too: optimizers pass over what has no
    gradient, and the groups stay the same when layers are unfrozen in mid-run. Groups without
    parameters are left out.
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
