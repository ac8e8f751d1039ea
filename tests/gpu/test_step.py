"""Training steps on a GPU, as far as the meta device can show them: refused settings, the number of
launched operations, and that the host does not wait for any."""

from __future__ import annotations

import sys
from collections import Counter
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from slipform.models import registry
from slipform.models.spec import ModelConfig
from slipform.pipelines import machine
from slipform.pipelines.batch import Batch, Mix
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


# Settings, size of the images, the largest number of launched operations. Clipping and asgd work
# on one tensor after another here; on a GPU on all together.
STEPS: dict[str, tuple[list[str], int, int]] = {
    "sgd": (["model.name=resnet18", "optimizer.momentum=0.9"], 224, 210),
    "average": (["model.name=resnet18", "optimizer.momentum=0.9", "train.ema=0.99"], 224, 215),
    "clipped": (["model.name=resnet18", "train.clip_norm=1.0"], 224, 340),
    "mixed": (["model.name=resnet18", "augment.mixup=0.3"], 224, 218),
    "adam": (["model.name=tiny", "optimizer.name=adam"], 32, 104),
    "adamw": (["model.name=tiny", "optimizer.name=adamw", "train.accumulate=2"], 32, 185),
    "asgd": (["model.name=tiny", "optimizer.name=asgd"], 32, 350),
    "rmsprop": (["model.name=tiny", "optimizer.name=rmsprop"], 32, 154),
    "muon": (["model.name=tiny", "optimizer.name=muon", "train.ema=0.9"], 32, 156),
}


@pytest.mark.parametrize("name", STEPS)
def test_a_step_launches_few_kernels_and_waits_for_none(name: str) -> None:
    sets, size, budget = STEPS[name]
    sets = [*sets, "train.compile=off", "train.precision=fp32", f"augment.image_size={size}"]
    config = resolve(None, sets)
    with pytest.MonkeyPatch.context() as patch:
        # The meta device has no fused optimizers. One call for all tensors replaces them.
        for made in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW):
            patch.setattr(made, "__init__", _foreach(made.__init__))
        # What "capturable" needs, which keeps counters of steps on a GPU.
        for kind in ("adam", "asgd", "rmsprop"):
            module = import_module(f"torch.optim.{kind}")
            patch.setattr(module, "_get_capturable_supported_devices", lambda **_: ["meta"])
        patch.setattr(build, "registry", SimpleNamespace(build=_on_meta))
        state = build.build_state(config, num_classes=10, process=Process(torch.device("cpu")))
        for group in (group for one in state.optimizers for group in one.param_groups):
            if "ns_steps" in group:
                group["lr"] = torch.zeros((), device="meta")  # all matrices together, as on a GPU
        images = torch.empty(8, size, size, 3, device="meta").permute(0, 3, 1, 2)
        labels = torch.zeros(8, dtype=torch.int64, device="meta")
        weights = torch.ones(8, device="meta")
        mix = Mix(labels, weights) if config.augment.mixup else None
        batch, count = Batch(images, labels, torch.arange(8), mix), config.train.accumulate
        train_step(state, iter([batch] * count), count)
        with Launches() as launches:
            train_step(state, iter([batch] * count), count)
    assert sum(launches.names.values()) <= budget, launches.names
    waits = ("_local_scalar_dense", "nonzero", "is_nonzero")
    assert not [name for name in launches.names if name.startswith(waits)], launches.names


def _foreach(made: Any) -> Any:
    def init(self: Any, *arguments: Any, **options: Any) -> None:
        kind = {} if isinstance(self, torch.optim.SGD) else {"capturable": True}
        made(self, *arguments, **{**options, "fused": False, "foreach": True, **kind})

    return init


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
    assert sum(launches.names.values()) <= 34, launches.names
    assert not [name for name in launches.names if "_local_scalar_dense" in name]
