"""Optimizers compared with torch's classes, called directly."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss, unfold

from slipform.train.config.optimizers import Muon, Sgd
from slipform.train.config.sections import VARIANTS
from slipform.train.step.optim import (
    forget_moments,
    load_moments,
    make_optimizers,
    set_learning_rate,
)

LR, DECAY = 0.05, 0.01
Reference = Callable[[Iterable[nn.Parameter]], list[torch.optim.Optimizer]]
REFERENCES: dict[str, tuple[dict[str, Any], Reference]] = {
    "sgd": (
        {"momentum": 0.9, "nesterov": True},
        lambda p: [torch.optim.SGD(p, LR, 0.9, weight_decay=DECAY, nesterov=True)],
    ),
    "asgd": ({}, lambda p: [torch.optim.ASGD(p, LR, weight_decay=DECAY)]),
    "adam": (
        {"betas": (0.8, 0.9)},
        lambda p: [torch.optim.Adam(p, LR, (0.8, 0.9), weight_decay=DECAY)],
    ),
    "adamw": ({"eps": 1e-6}, lambda p: [torch.optim.AdamW(p, LR, eps=1e-6, weight_decay=DECAY)]),
    "rmsprop": (
        {"alpha": 0.9, "momentum": 0.5},
        lambda p: [torch.optim.RMSprop(p, LR, 0.9, weight_decay=DECAY, momentum=0.5)],
    ),
}


def _net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 8), nn.ReLU(), nn.Linear(8, 5)
    ).double()


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
def test_steps_equal_those_of_torch(name: str) -> None:
    settings, reference = REFERENCES[name]
    ours, theirs = _net(), _net()
    section: Any = VARIANTS["optimizer"][name]
    config = section(lr=LR, weight_decay=DECAY, **settings)
    _train(ours, make_optimizers(config, ours))
    _train(theirs, reference(theirs.parameters()))
    assert not torch.equal(ours[2].weight, _net()[2].weight)
    _assert_same(ours, theirs)


class _Flat(nn.Module):
    """_net() with its convolution as a matrix product over patches."""

    def __init__(self) -> None:
        super().__init__()
        net = _net().float()
        self.matrix, self.bias = (
            nn.Parameter(net[0].weight.detach().reshape(4, 27).clone()),
            net[0].bias,
        )
        self.rest = net[1:]

    def forward(self, x: Tensor) -> Tensor:
        return self.rest(((self.matrix @ unfold(x, 3)) + self.bias[:, None]).unflatten(2, (6, 6)))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("frozen_at_first", [False, True])
def test_muon_takes_hidden_weights_and_adamw_the_rest(
    memory_format: torch.memory_format, frozen_at_first: bool
) -> None:
    """Compared with torch.optim.Muon on the same net with its convolution as a matrix."""
    ours, theirs = _net().float().to(memory_format=memory_format), _Flat()
    ours[0].weight.requires_grad_(not frozen_at_first)
    config = Muon(lr=LR, weight_decay=DECAY, momentum=0.9, nesterov=True)
    made = make_optimizers(config, ours)
    ours.requires_grad_(True)
    hidden = [theirs.matrix, theirs.rest[1].weight]
    rest = [p for p in theirs.parameters() if all(p is not h for h in hidden)]
    muon = torch.optim.Muon(hidden, LR, DECAY, 0.9, True, adjust_lr_fn="match_rms_adamw")
    reference = [muon, torch.optim.AdamW(rest, LR, weight_decay=DECAY)]
    assert [type(optimizer).__name__ for optimizer in made] == ["ConvMuon", "AdamW"]
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    for model, optimizers in ((ours, made), (theirs, reference)):
        for _ in range(5):
            model.zero_grad()
            model(images).square().sum().backward()
            for optimizer in optimizers:
                optimizer.step()
    assert all(group["params"][0].grad is None for group in made[0].param_groups)
    torch.testing.assert_close(
        ours[0].weight.reshape(4, 27), theirs.matrix, rtol=1e-2, atol=2e-3
    )  # Muon rounds to bfloat16
    for x, y in zip(ours[1:].parameters(), theirs.rest.parameters(), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-2, atol=2e-3)


def test_muon_with_unit_filters_and_sgd_for_the_rest() -> None:
    """Compared with torch's Muon and SGD on the same net, with hidden weights scaled by the test
    before each step."""
    ours, theirs = _net().float().to(memory_format=torch.channels_last), _Flat()
    config = Muon(
        lr=0.2, momentum=0.6, nesterov=True, unit_filters=True, newton_schulz_steps=3,
        rest="sgd", rest_lr=0.01, rest_momentum=0.85, head_lr=0.03, weight_decay=DECAY,
    )  # fmt: skip
    made = make_optimizers(config, ours)
    rates = [
        {group["name"]: group["initial_lr"] for group in optimizer.param_groups}
        for optimizer in made
    ]
    assert rates == [{"body": 0.2}, {"body": 0.01, "head": 0.03}]
    hidden = [theirs.matrix, theirs.rest[1].weight]
    muon = torch.optim.Muon(hidden, 0.2, DECAY, 0.6, True, ns_steps=3, adjust_lr_fn="original")
    sgd = [
        {"params": [theirs.bias, theirs.rest[1].bias], "lr": 0.01},
        {"params": theirs.rest[3].parameters(), "lr": 0.03},
    ]
    reference = [muon, torch.optim.SGD(sgd, momentum=0.85, weight_decay=DECAY, nesterov=True)]
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    for model, optimizers in ((ours, made), (theirs, reference)):
        for _ in range(5):
            model.zero_grad()
            model(images).square().sum().backward()
            if model is theirs:
                for weight in hidden:
                    weight.data.mul_(len(weight) ** 0.5 / torch.linalg.matrix_norm(weight.data))
            for optimizer in optimizers:
                optimizer.step()
    torch.testing.assert_close(
        ours[0].weight.reshape(4, 27), theirs.matrix, rtol=1e-2, atol=2e-2
    )  # Muon rounds to bfloat16
    for x, y in zip(ours[1:].parameters(), theirs.rest.parameters(), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-2, atol=2e-2)


def test_muon_has_the_gradient_before_the_step_for_scalers() -> None:
    model = _net().float()
    muon = make_optimizers(Muon(lr=LR), model)[0]
    model(torch.ones(2, 3, 8, 8)).sum().backward()
    matrix = muon.param_groups[0]["params"][0]
    matrix.grad.mul_(0.5)
    assert torch.equal(matrix.grad.reshape(4, 3, 3, 3), model[0].weight.grad)


def test_rates_of_head_and_body_follow_the_factor() -> None:
    model = _net()
    optimizers = make_optimizers(Sgd(lr=1.0, head_lr=0.5, body_lr=0.1), model)
    set_learning_rate(optimizers, 0.5)
    rates = {group["name"]: group["lr"] for group in optimizers[0].param_groups}
    assert rates == {"body": 0.05, "head": 0.25}
    assert [
        p is q
        for p, q in zip(optimizers[0].param_groups[1]["params"], model[4].parameters(), strict=True)
    ] == [True, True]


def test_frozen_parameters_do_not_change_with_weight_decay() -> None:
    model = _net()
    model[0].requires_grad_(False)
    before = model[0].weight.clone()
    _train(model, make_optimizers(Sgd(lr=LR, weight_decay=0.5), model))
    assert torch.equal(model[0].weight, before)


def test_a_resumed_optimizer_keeps_momentum_and_takes_the_new_settings() -> None:
    config = Sgd(lr=LR, momentum=0.9)
    model = _net()
    before = make_optimizers(config, model)[0]
    _train(model, [before])
    now = make_optimizers(config.model_copy(update={"lr": 1.0, "weight_decay": 0.25}), model)[0]
    load_moments(now, before.state_dict())
    assert (now.param_groups[0]["lr"], now.param_groups[0]["weight_decay"]) == (1.0, 0.25)
    parameter = model[2].weight
    assert torch.equal(
        now.state[parameter]["momentum_buffer"], before.state[parameter]["momentum_buffer"]
    )


@pytest.mark.parametrize("name", ["sgd", "rmsprop"])
def test_a_resumed_optimizer_may_have_momentum_for_the_first_time(name: str) -> None:
    kind: Any = VARIANTS["optimizer"][name]
    config, model = kind(lr=LR), _net()
    before = make_optimizers(config, model)[0]
    _train(model, [before])
    now = make_optimizers(config.model_copy(update={"momentum": 0.9}), model)[0]
    load_moments(now, before.state_dict())
    for parameter in model.parameters():
        assert now.state[parameter]["momentum_buffer"].eq(0).all()
    _train(model, [now])
    assert all(
        now.state[parameter]["momentum_buffer"].ne(0).any() for parameter in model.parameters()
    )


@pytest.mark.parametrize("name", REFERENCES)
def test_forgotten_moments_are_those_of_a_new_optimizer(name: str) -> None:
    """A step that is skipped may be the next one: fused SGD would leave missing momenta unset."""
    kind: Any = VARIANTS["optimizer"][name]
    config, model = kind(lr=LR, weight_decay=DECAY, **REFERENCES[name][0]), _net()
    (new,), (used,) = make_optimizers(config, model), make_optimizers(config, model)
    _train(model, [used])
    forget_moments(used)
    expected, found = new.state_dict()["state"], used.state_dict()["state"]
    assert found.keys() == expected.keys()
    for number, values in expected.items():
        assert found[number].keys() == values.keys()
        assert all(torch.equal(found[number][key], value) for key, value in values.items())
