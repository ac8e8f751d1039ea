"""Training steps on a GPU, as far as the meta device can show them: refused settings, the number of
launched operations, and that the host does not wait for any."""

from __future__ import annotations

import sys
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from slipform.models import registry
from slipform.models.spec import ModelConfig
from slipform.pipelines import machine
from slipform.pipelines.batch import Batch
from slipform.pipelines.errors import ConfigError
from slipform.train.config.optimizers import Muon
from slipform.train.config.resolve import resolve
from slipform.train.config.sections import TrainConfig
from slipform.train.machine.device import pick_compile, set_up
from slipform.train.machine.distributed import Process
from slipform.train.step import build
from slipform.train.step.optim import make_optimizers
from slipform.train.step.step import train_step

# Operations that launch a kernel. Views launch none and are left out.
VIEWS = ("view", "t.", "detach", "transpose", "permute", "slice", "select", "expand", "alias")


def test_graphs_do_not_add_up_gradients() -> None:
    gpu = torch.device("cuda", 0)
    assert pick_compile("graphs", gpu) == "reduce-overhead"
    assert pick_compile("on", gpu, accumulate=4) == "default"
    with pytest.raises(ConfigError, match="accumulate"):
        pick_compile("graphs", gpu, accumulate=4)


def test_threads_release_the_gil_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that launches kernels would otherwise wait 5 ms for a thread that decodes."""
    found: list[float] = []
    monkeypatch.setattr(sys, "setswitchinterval", found.append)
    set_up(TrainConfig(), torch.device("cpu"))
    assert not found
    tf32 = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    try:
        set_up(TrainConfig(), torch.device("cuda", 0))
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = tf32
        torch.backends.cudnn.benchmark = False
    assert found == [0.0005]


def test_a_loader_leaves_cores_to_the_launching_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, left in ((16, 14), (2, 1), (1, 1)):
        monkeypatch.setattr(machine, "num_cores", lambda cores=cores: cores)
        assert (machine.num_threads("cuda"), machine.num_threads("cpu")) == (left, cores)


class Launches(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = str(func).removeprefix("aten.")
        if not name.startswith(VIEWS):
            self.names[name] += 1
        return func(*args, **(kwargs or {}))


def _on_meta(*arguments: Any, **options: Any) -> nn.Module:
    """registry.build, with tensors on the meta device."""
    with torch.device("meta"):
        model = registry.build(*arguments, **options)
    model.to = lambda *_, **__: model  # type: ignore[method-assign]
    return model


@pytest.mark.parametrize(
    ("sets", "budget"),
    [
        (["model.name=resnet18", "optimizer.momentum=0.9"], 210),
        (["model.name=resnet18", "optimizer.momentum=0.9", "train.ema=0.99"], 215),
    ],
)
def test_a_step_launches_few_kernels_and_waits_for_none(sets: list[str], budget: int) -> None:
    config = resolve(None, [*sets, "train.compile=off", "train.precision=fp32"])
    with pytest.MonkeyPatch.context() as patch:
        # The meta device has no fused optimizer. One call for all tensors replaces it.
        made = torch.optim.SGD.__init__

        def foreach(self: Any, groups: Any, **options: Any) -> None:
            made(self, groups, **{**options, "fused": False, "foreach": True})

        patch.setattr(torch.optim.SGD, "__init__", foreach)
        patch.setattr(build, "registry", SimpleNamespace(build=_on_meta))
        state = build.build_state(config, num_classes=10, process=Process(torch.device("cpu")))
    images = torch.empty(8, 224, 224, 3, device="meta").permute(0, 3, 1, 2)
    labels = torch.zeros(8, dtype=torch.int64, device="meta")
    batch = Batch(images, labels, torch.arange(8))
    train_step(state, iter([batch]))
    with Launches() as launches:
        train_step(state, iter([batch]))
    assert sum(launches.names.values()) <= budget, launches.names
    assert not [
        name for name in launches.names if "_local_scalar_dense" in name or "nonzero" in name
    ]


def test_muon_launches_few_kernels_for_all_matrices() -> None:
    """The learning rate is on the device, as in a CUDA graph. torch.optim.Muon launches 126
    operations for `fast` and reads the rate on the host. On a GPU the last product with the scale
    of the filters is one operation for each matrix."""
    model = _on_meta(ModelConfig(name="fast"), num_classes=10, image_size=32)
    config = Muon(unit_filters=True, newton_schulz_steps=3, weight_decay=0.01)
    muon, _ = make_optimizers(config, model)
    for group in muon.param_groups:
        group["lr"] = torch.zeros((), device="meta")
    for parameter in model.parameters():
        parameter.grad = torch.empty_like(parameter)
    muon.step()
    with Launches() as launches:
        muon.step()
    assert sum(launches.names.values()) <= 40, launches.names
    assert not [name for name in launches.names if "_local_scalar_dense" in name]
