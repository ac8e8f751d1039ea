"""Optimizers by name: `make_optimizers(config, model)`.

In: the [optimizer] section and the plain model. Out: torch optimizers of all its parameters. Frozen
parameters are included: optimizers skip them, since they have no gradient, and a run can unfreeze
them later.

Muon (Jordan et al., 2024) trains only the matrices and convolutions of hidden layers. A second
optimizer, AdamW or SGD, trains the rest, such as the head and the biases.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from slipform.models.freeze import parameter_groups
from slipform.pipelines.errors import ConfigError
from slipform.train.config.optimizers import Adam, AdamW, Asgd, Muon, OptimizerConfig, RmsProp, Sgd
from slipform.train.step import skipping

__all__ = ["forget_moments", "load_moments", "make_optimizers", "set_learning_rate"]

_Group = dict[str, Any]


def make_optimizers(config: OptimizerConfig, model: nn.Module) -> tuple[Optimizer, ...]:
    """Make the optimizers of a configuration.

    Args:
        config: The [optimizer] section.
        model: The plain net.

    Returns:
        One optimizer, or two for Muon. Each group has "initial_lr", the learning rate that
        `set_learning_rate` multiplies.

    Raises:
        ConfigError: The installed version of torch has no Muon.
    """
    optimizers = (
        _muon(config, model)
        if isinstance(config, Muon)
        else (_one(config, _groups(config, model)),)
    )
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    return optimizers


def _groups(config: OptimizerConfig, model: nn.Module) -> list[_Group]:
    return parameter_groups(
        model,
        lr=config.lr,
        weight_decay=config.weight_decay,
        head_lr=config.head_lr,
        body_lr=config.body_lr,
        norm_bias_lr=config.norm_bias_lr,
        decay_all=config.decay_all,
        layer_decay=config.layer_decay,
    )


def _one(config: OptimizerConfig, groups: list[_Group]) -> Optimizer:
    # fused: one pass over the memory instead of several. SGD step of AlexNet on 2 cores (AVX2): 35
    # ms with it, 50 to 97 ms without.
    match config:
        case Sgd():
            sgd = torch.optim.SGD(
                groups, momentum=config.momentum, nesterov=config.nesterov, fused=True
            )
            _add_momenta(sgd)
            return sgd
        case Asgd():
            return skipping.Asgd(groups, capturable=_off_the_host(groups))
        case Adam():
            return torch.optim.Adam(groups, betas=config.betas, eps=config.eps, fused=True)
        case AdamW():
            return torch.optim.AdamW(groups, betas=config.betas, eps=config.eps, fused=True)
        case RmsProp():
            return skipping.RmsProp(
                groups,
                alpha=config.alpha,
                eps=config.eps,
                momentum=config.momentum,
                capturable=_off_the_host(groups),
            )
        case Muon():
            raise AssertionError("muon is more than one optimizer")


def _off_the_host(groups: list[_Group]) -> bool:
    """Whether the parameters are on a GPU. Counters of steps are then there, too (capturable).

    torch would otherwise read them on the host, and wait for the device at each parameter.
    """
    return any(parameter.device.type != "cpu" for group in groups for parameter in group["params"])


def _muon(config: Muon, model: nn.Module) -> tuple[Optimizer, ...]:
    if not hasattr(torch.optim, "Muon"):
        raise ConfigError(
            f'optimizer.name = "muon" needs torch 2.9 or newer; this is {torch.__version__}'
        )
    rest_config = config.rest_config()

    def part(config: OptimizerConfig, hidden: bool) -> list[_Group]:
        chosen = []
        for group in _groups(config, model):
            params = [
                p
                for p in group["params"]
                if (p.ndim in (2, 4) and group["name"].startswith("body")) == hidden
            ]
            chosen += [{**group, "params": params}] if params else []
        return chosen

    optimizers: list[Optimizer] = []
    if hidden := part(config, hidden=True):
        from slipform.train.step.muon import ConvMuon

        optimizers.append(
            ConvMuon(
                hidden,
                momentum=config.momentum,
                nesterov=config.nesterov,
                ns_steps=config.newton_schulz_steps,
                unit_filters=config.unit_filters,
                # match_rms_adamw (Liu et al., 2025) scales the update so that both optimizers can
                # have the same learning rate.
                adjust_lr_fn="original" if config.unit_filters else "match_rms_adamw",
            )
        )
    optimizers.append(_one(rest_config, part(rest_config, hidden=False)))
    return tuple(optimizers)


def set_learning_rate(optimizers: tuple[Optimizer, ...], factor: float) -> None:
    """Set the learning rate of every group to its initial learning rate times a factor.

    Args:
        optimizers: The optimizers of `make_optimizers`; changed in place.
        factor: The factor; see `schedule.factor`.
    """
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor


def load_moments(optimizer: Optimizer, saved: dict[str, Any]) -> None:
    """Load momenta and averages of gradients into an optimizer.

    Learning rates and weight decay do not change: a resumed run may have new settings.

    Args:
        optimizer: Changed in place.
        saved: The state_dict of an optimizer of the same kind, with as many parameters.
    """
    optimizer.load_state_dict(
        {"state": saved["state"], "param_groups": optimizer.state_dict()["param_groups"]}
    )
    _add_momenta(optimizer)


def forget_moments(optimizer: Optimizer) -> None:
    """Delete momenta and averages of gradients, as before the first step.

    Args:
        optimizer: Changed in place.
    """
    optimizer.state.clear()
    _add_momenta(optimizer)


def _add_momenta(optimizer: Optimizer) -> None:
    """Set momenta that are missing to 0, which does not change the steps.

    Fused SGD of torch 2.15 leaves its momenta uninitialized if the first step is skipped because a
    gradient is infinite, which is frequent in float16. RMSprop makes them in its first step only: a
    resumed run may have another optimizer.momentum than 0 for the first time.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"] if group.get("momentum") else ():
            state = optimizer.state.get(parameter, {})
            begun = bool(state) or isinstance(optimizer, torch.optim.SGD)
            if begun and state.get("momentum_buffer") is None:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
