"""float16 with a scaled loss. `train` allows it on GPUs only, where it is fast. The arithmetic is
the same on a CPU."""

from __future__ import annotations

import copy
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from slipform.pipelines.batch import Batch
from slipform.train.config.run_config import RunConfig
from slipform.train.machine.distributed import Process
from slipform.train.step import build
from slipform.train.step.state import TrainState
from slipform.train.step.step import train_step

Small = Callable[..., RunConfig]
SGD = ("optimizer.momentum=0.9",)
MUON = ("optimizer.name=muon", "optimizer.rest=sgd", "optimizer.rest_lr=0.01", "optimizer.lr=0.01")
OPTIMIZERS = {
    "sgd": SGD,
    "clipped": (*SGD, "train.clip_norm=1.0"),
    "adamw": ("optimizer.name=adamw",),
    "muon": MUON,
    "asgd": ("optimizer.name=asgd",),
    "rmsprop": ("optimizer.name=rmsprop", "optimizer.lr=0.001", "optimizer.momentum=0.5"),
}
# These skip a step themselves. Fused optimizers of torch do, too.
SKIPPING = {
    "muon": (*MUON, "optimizer.unit_filters=true"),
    "asgd": OPTIMIZERS["asgd"],
    "rmsprop": OPTIMIZERS["rmsprop"],
}


@pytest.fixture
def state(small: Small, monkeypatch: pytest.MonkeyPatch) -> Callable[..., TrainState]:
    def make(*sets: str) -> TrainState:
        with monkeypatch.context() as patch:
            patch.setattr(build, "pick_precision", lambda name, device: torch.float16)
            return build.build_state(
                small(*sets), num_classes=6, process=Process(torch.device("cpu"))
            )

    return make


def _batch(seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(24, 3, 32, 32, generator=generator)
    return Batch(images, torch.randint(6, (24,), generator=generator), torch.arange(24))


def _weights(state: TrainState) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in state.model.parameters()])


@pytest.mark.parametrize("name", SKIPPING)
def test_a_step_is_skipped_without_waiting_for_the_device(
    name: str, state: Callable[..., TrainState], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An infinite gradient changes neither weights nor momenta, bit for bit."""
    for kind in ("asgd", "rmsprop"):  # as on a GPU
        module = import_module(f"torch.optim.{kind}")
        monkeypatch.setattr(module, "_get_capturable_supported_devices", lambda **_: ["cpu"])
    one = state(*SKIPPING[name], "optimizer.weight_decay=0.1")
    optimizer = one.optimizers[0]
    for group in optimizer.param_groups:
        if "capturable" in group:
            group["capturable"] = True
    one.scaler.load_state_dict(one.scaler.state_dict() | {"scale": 128.0})
    train_step(one, iter([_batch(0)]))
    one.model.zero_grad()
    batch = _batch(1)
    loss = one.functions.loss(one.functions.forward(batch.images), batch.labels, None)
    one.scaler.scale(loss).backward()
    hidden = [parameter for parameter in one.model.parameters() if parameter.ndim == 4][1]
    assert hidden.grad is not None
    hidden.grad[0, 0, 0, 0] = float("inf")
    hidden.grad[0, 0, 0, 1] = 3e38  # its square is infinite
    before = copy.deepcopy(optimizer.state_dict()["state"]), _weights(one)
    assert any(values for values in before[0].values())
    with Asked() as asked:
        one.scaler.step(optimizer)
    assert not asked.names
    assert torch.equal(_weights(one), before[1])
    after = optimizer.state_dict()["state"]
    for number, values in before[0].items():
        for key, value in values.items():
            assert torch.equal(after[number][key], value), key
    hidden.grad.zero_()
    one.scaler.update()
    with Asked() as asked:
        one.scaler.step(optimizer)
    assert not asked.names
    assert not torch.equal(_weights(one), before[1])


class Asked(TorchDispatchMode):
    """The operations that wait for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if "_local_scalar_dense" in str(func):
            self.names.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_learns_nearly_what_float32_learns(
    name: str, small: Small, state: Callable[..., TrainState]
) -> None:
    exact = build.build_state(
        small(*OPTIMIZERS[name], "train.precision=fp32"),
        num_classes=6,
        process=Process(torch.device("cpu")),
    )
    rough = state(*OPTIMIZERS[name])
    start = _weights(exact)
    rough.scaler.load_state_dict(rough.scaler.state_dict() | {"scale": 128.0})  # no step is skipped
    for step in range(4):
        a = train_step(exact, iter([_batch(step)])).loss
        b = train_step(rough, iter([_batch(step)])).loss
        assert float(b) == pytest.approx(float(a), rel=0.02)
    assert rough.scaler.get_scale() == 128.0
    learnt, expected = _weights(rough) - start, _weights(exact) - start
    # These divide by the magnitude of the gradient: small rounded gradients count like large ones.
    like = 0.9 if name in ("adamw", "rmsprop") else 0.99
    assert torch.nn.functional.cosine_similarity(learnt, expected, dim=0) > like
    assert float(learnt.norm()) == pytest.approx(float(expected.norm()), rel=0.03)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_with_an_infinite_gradient_is_skipped(
    name: str, state: Callable[..., TrainState]
) -> None:
    one = state(*OPTIMIZERS[name])
    one.scaler.load_state_dict(one.scaler.state_dict() | {"scale": 128.0})
    train_step(one, iter([_batch(0)]))
    before, scale = _weights(one), 2.0**40
    one.scaler.load_state_dict(
        one.scaler.state_dict() | {"scale": scale}
    )  # above what float16 can hold
    assert torch.isfinite(train_step(one, iter([_batch(1)])).loss)
    assert torch.equal(_weights(one), before)
    assert one.scaler.get_scale() == scale / 2
    one.scaler.load_state_dict(one.scaler.state_dict() | {"scale": 128.0})
    train_step(one, iter([_batch(2)]))
    assert not torch.equal(_weights(one), before)
    assert one.is_finite()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_skipped_first_step_has_no_effect(name: str, state: Callable[..., TrainState]) -> None:
    """Fused SGD of torch 2.15 would then continue with uninitialized momenta: a weight became
    3e12."""
    late, whole = state(*OPTIMIZERS[name]), state(*OPTIMIZERS[name])
    start = _weights(late)
    late.scaler.load_state_dict(late.scaler.state_dict() | {"scale": 2.0**40})
    train_step(late, iter([_batch(0)]))
    assert torch.equal(_weights(late), start)
    for one in (late, whole):
        one.scaler.load_state_dict(one.scaler.state_dict() | {"scale": 1024.0})
        for step in range(1, 5):
            train_step(one, iter([_batch(step)]))
        assert one.scaler.get_scale() == 1024.0
    assert torch.equal(_weights(late), _weights(whole))


def test_a_loaded_state_continues_bit_for_bit(state: Callable[..., TrainState]) -> None:
    """The scale is part of the state. It is saved after it has fallen so far that steps succeed."""
    whole = state(*SGD)
    whole.scaler.load_state_dict(whole.scaler.state_dict() | {"scale": 2.0**30})
    start = _weights(whole)
    for step in range(16):
        train_step(whole, iter([_batch(step)]))
    assert whole.scaler.get_scale() < 2.0**30
    assert not torch.equal(_weights(whole), start)
    saved = copy.deepcopy(whole.state_dict())
    parts = state(*SGD)
    parts.load_state_dict(saved)
    for one in (whole, parts):
        for step in range(16, 20):
            train_step(one, iter([_batch(step)]))
    assert parts.scaler.state_dict() == whole.scaler.state_dict()
    assert torch.equal(_weights(parts), _weights(whole))
