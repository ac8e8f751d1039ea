"""Steps of a trial model, and the memory formats that are compared."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from slipform.pipelines.manifest import read_manifest
from slipform.train.config.run_config import RunConfig
from slipform.train.machine.device import has_bfloat16
from slipform.train.machine.distributed import Process
from slipform.train.run.trial import Trial, variants
from slipform.train.step.build import build_state
from slipform.train.step.step import set_train_mode

CPU = Process(torch.device("cpu"))


def _config(**train: object) -> RunConfig:
    config = RunConfig().replace("model.name", "tiny").replace("augment.image_size", 32)
    for name, value in ({"batch_size": 8, "epochs": 20} | train).items():
        config = config.replace(f"train.{name}", value)
    return config


@pytest.mark.parametrize("optimizer", ["sgd", "muon", "adamw"])
def test_real_steps_of_every_variant(shapes: Path, optimizer: str) -> None:
    """Weights, averages and moments get the memory format, and all of them stay finite."""
    config = _config(ema=0.9).replace("optimizer", {"name": optimizer})
    ways = variants(config.train, CPU.device, compile_too=False)
    ways = [way for way in ways if way.precision == "fp32" or has_bfloat16(CPU.device)]
    with Trial(config, read_manifest(shapes), CPU) as found:
        for way in (*ways, *reversed(ways)):
            found.step(way)
            found.step(way)
            layout = torch.channels_last if way.channels_last else torch.contiguous_format
            state = found._state
            for tensor in (*state.model.parameters(), *found._moments()):
                if tensor.dim() == 4:
                    assert tensor.is_contiguous(memory_format=layout)
                assert tensor.isfinite().all()
            assert state.functions.precision == getattr(
                torch, {"fp32": "float32", "bf16": "bfloat16"}[way.precision]
            )


def test_channels_first_computes_the_same() -> None:
    """Equal up to rounding: the order of sums differs."""
    images = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    images = images.contiguous(memory_format=torch.channels_last)
    found = []
    for last in (True, False):
        config = _config(channels_last=last, precision="fp32")
        state = build_state(config, num_classes=5, process=CPU)
        set_train_mode(state)
        logits = state.functions.forward(images)
        logits.square().sum().backward()
        found.append([logits, *(parameter.grad for parameter in state.model.parameters())])
    for ours, theirs in zip(*found, strict=True):
        assert torch.allclose(
            ours, theirs, rtol=1e-4, atol=1e-4 * theirs.detach().abs().max().item()
        )
