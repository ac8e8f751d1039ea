"""Optimizers against torch's own classes, called directly."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss

from train.optim import load_moments, make_optimizers, set_learning_rate
from train.sections import OptimizerConfig

LR, DECAY = 0.05, 0.01
Reference = Callable[[Iterable[nn.Parameter]], list[torch.optim.Optimizer]]
REFERENCES: dict[str, tuple[dict[str, Any], Reference]] = {
    "sgd": ({"momentum": 0.9, "nesterov": True}, lambda p: [torch.optim.SGD(p, LR, 0.9, weight_decay=DECAY, nesterov=True)]),
    "asgd": ({}, lambda p: [torch.optim.ASGD(p, LR, weight_decay=DECAY)]),
    "adam": ({"betas": (0.8, 0.9)}, lambda p: [torch.optim.Adam(p, LR, (0.8, 0.9), weight_decay=DECAY)]),
    "adamw": ({"eps": 1e-6}, lambda p: [torch.optim.AdamW(p, LR, eps=1e-6, weight_decay=DECAY)]),
    "rmsprop": ({"alpha": 0.9, "momentum": 0.5}, lambda p: [torch.optim.RMSprop(p, LR, 0.9, weight_decay=DECAY, momentum=0.5)]),
}


def _net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 8), nn.ReLU(), nn.Linear(8, 5)).double()


def _train(model: nn.Module, optimizers: Iterable[torch.optim.Optimizer], steps: int = 8) -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        x = torch.randn(4, 3, 8, 8, generator=generator, dtype=torch.float64)
        model.zero_grad()
        mse_loss(model(x), x.mean((1, 2, 3))[:, None].expand(4, 5)).backward()
        for optimizer in optimizers:
            optimizer.step()


def _assert_same(a: nn.Module, b: nn.Module) -> None:
    for (name, x), y in zip(a.named_parameters(), b.parameters(), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-9, atol=1e-12, msg=name)


@pytest.mark.parametrize("name", REFERENCES)
def test_takes_torch_s_steps(name: str) -> None:
    settings, reference = REFERENCES[name]
    ours, theirs = _net(), _net()
    _train(ours, make_optimizers(OptimizerConfig(name=name, lr=LR, weight_decay=DECAY, **settings), ours))  # type: ignore[arg-type]
    _train(theirs, reference(theirs.parameters()))
    assert not torch.equal(ours[2].weight, _net()[2].weight)
    _assert_same(ours, theirs)


def test_muon_takes_hidden_matrices_and_adamw_the_rest() -> None:
    ours, theirs = _net().float(), _net().float()
    config = OptimizerConfig(name="muon", lr=LR, weight_decay=DECAY, momentum=0.9, nesterov=True)
    made = make_optimizers(config, ours)
    hidden = theirs[2].weight
    rest = [p for p in theirs.parameters() if p is not hidden]
    muon = torch.optim.Muon([hidden], LR, DECAY, 0.9, True, adjust_lr_fn="match_rms_adamw")
    reference = [muon, torch.optim.AdamW(rest, LR, weight_decay=DECAY)]
    assert [type(optimizer).__name__ for optimizer in made] == ["Muon", "AdamW"]
    for model, optimizers in ((ours, made), (theirs, reference)):
        for _ in range(5):
            model.zero_grad()
            model(torch.ones(2, 3, 8, 8)).square().sum().backward()
            for optimizer in optimizers:
                optimizer.step()
    for x, y in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-3, atol=1e-4)


def test_rates_of_head_and_body_follow_the_factor() -> None:
    model = _net()
    optimizers = make_optimizers(OptimizerConfig(lr=1.0, head_lr=0.5, body_lr=0.1), model)
    set_learning_rate(optimizers, 0.5)
    rates = {group["name"]: group["lr"] for group in optimizers[0].param_groups}
    assert rates == {"body": 0.05, "head": 0.25}
    assert [p is q for p, q in zip(optimizers[0].param_groups[1]["params"], model[4].parameters(), strict=True)] == [True, True]


def test_frozen_parameters_stay_whatever_the_decay() -> None:
    model = _net()
    model[0].requires_grad_(False)
    before = model[0].weight.clone()
    _train(model, make_optimizers(OptimizerConfig(lr=LR, weight_decay=0.5), model))
    assert torch.equal(model[0].weight, before)


def test_a_resumed_optimizer_keeps_momentum_and_takes_the_new_settings() -> None:
    config = OptimizerConfig(lr=LR, momentum=0.9)
    model = _net()
    before = make_optimizers(config, model)[0]
    _train(model, [before])
    now = make_optimizers(config.model_copy(update={"lr": 1.0, "weight_decay": 0.25}), model)[0]
    load_moments(now, before.state_dict())
    assert (now.param_groups[0]["lr"], now.param_groups[0]["weight_decay"]) == (1.0, 0.25)
    parameter = model[2].weight
    assert torch.equal(now.state[parameter]["momentum_buffer"], before.state[parameter]["momentum_buffer"])
