"""Optimizers by name: `make_optimizers(config, model)`.

In: the [optimizer] section and the plain model, parts of it frozen or not. Out: torch optimizers
over all its parameters, frozen ones too: without a gradient they are passed over, so unfreezing in
mid-run changes nothing here.

There is more than one where a method covers only some parameters: Muon (Jordan et al., 2024) works
on matrices and convolutions of hidden layers, and AdamW or SGD takes the rest, head and biases
among them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from slipform.models.freeze import parameter_groups
from slipform.pipelines.errors import ConfigError
from slipform.train.config.optimizers import Adam, AdamW, Asgd, Muon, OptimizerConfig, RmsProp, Sgd

Group = dict[str, Any]


def make_optimizers(config: OptimizerConfig, model: nn.Module) -> tuple[Optimizer, ...]:
    """The optimizers of a configuration. Each group's "initial_lr" is what `set_learning_rate`
    multiplies."""
    optimizers = (
        _muon(config, model)
        if isinstance(config, Muon)
        else (_one(config, _groups(config, model)),)
    )
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    return optimizers


def _groups(config: OptimizerConfig, model: nn.Module) -> list[Group]:
    return parameter_groups(
        model,
        lr=config.lr,
        weight_decay=config.weight_decay,
        head_lr=config.head_lr,
        body_lr=config.body_lr,
        norm_bias_lr=config.norm_bias_lr,
        decay_all=config.decay_all,
    )


def _one(config: OptimizerConfig, groups: list[Group]) -> Optimizer:
    # fused: one pass over the memory in place of several. AlexNet's SGD step on 2 cores (AVX2): 35
    # ms, 50 to 97 ms without.
    match config:
        case Sgd():
            return _with_momentum(
                torch.optim.SGD(
                    groups, momentum=config.momentum, nesterov=config.nesterov, fused=True
                )
            )
        case Asgd():
            return torch.optim.ASGD(groups)
        case Adam():
            return torch.optim.Adam(groups, betas=config.betas, eps=config.eps, fused=True)
        case AdamW():
            return torch.optim.AdamW(groups, betas=config.betas, eps=config.eps, fused=True)
        case RmsProp():
            return torch.optim.RMSprop(
                groups, alpha=config.alpha, eps=config.eps, momentum=config.momentum
            )
        case Muon():
            raise AssertionError("muon is more than one optimizer")


def _muon(config: Muon, model: nn.Module) -> tuple[Optimizer, ...]:
    if not hasattr(torch.optim, "Muon"):
        raise ConfigError(
            f'optimizer.name = "muon" needs torch 2.9 or newer; this is {torch.__version__}'
        )
    rest_config = config.rest_config()

    def part(config: OptimizerConfig, hidden: bool) -> list[Group]:
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
                # match_rms_adamw (Liu et al., 2025) scales the update so that one learning rate
                # serves both optimizers.
                adjust_lr_fn="original" if config.unit_filters else "match_rms_adamw",
            )
        )
    optimizers.append(_one(rest_config, part(rest_config, hidden=False)))
    return tuple(optimizers)


def set_learning_rate(optimizers: tuple[Optimizer, ...], factor: float) -> None:
    """Every group's learning rate becomes its initial one times `factor`."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor


def load_moments(optimizer: Optimizer, saved: dict[str, Any]) -> None:
    """Momentum and the like from a state_dict; rates and decay stay as they are now, since a
    resumed run may change them."""
    optimizer.load_state_dict(
        {"state": saved["state"], "param_groups": optimizer.state_dict()["param_groups"]}
    )


def _with_momentum(optimizer: torch.optim.SGD) -> torch.optim.SGD:
    """Momenta of 0 from the start: 0.9 * 0 + gradient is what torch begins with, too. Left to
    itself, fused SGD (torch 2.15) leaves them as they lay in memory where the first step has an
    infinite gradient, as float16's first ones often have."""
    for group in optimizer.param_groups:
        for parameter in group["params"] if group["momentum"] else ():
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer
