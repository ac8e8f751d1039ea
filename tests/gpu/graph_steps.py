"""Compares steps in a model of CUDA graphs, on batches from Triton's interpreter, with eager steps.

In: a folder for the dataset, and the cases as JSON {name: settings of the run}. Out: nothing. An
assertion fails if weights, momenta, averages, losses or positions differ. It runs in its own
process, because TRITON_INTERPRET is read at import.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"
sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import torch
from torch import Tensor

from slipform.pipelines.device_batches import device_batches
from slipform.pipelines.executors.resident import ResidentExecutor
from slipform.pipelines.executors.resident_gpu import ResidentGpuExecutor
from slipform.pipelines.plan import triton as draw_kernels
from slipform.pipelines.plan import triton_chains
from slipform.pipelines.rendering import triton as render_kernels
from slipform.pipelines.rendering import triton_blur, triton_operations, triton_pictures
from slipform.train.config.resolve import resolve
from slipform.train.machine.distributed import Process
from slipform.train.scores.observations import Codes
from slipform.train.step.build import build_state
from slipform.train.step.graph import GraphSteps
from slipform.train.step.observe import Observations
from slipform.train.step.optim import set_learning_rate
from slipform.train.step.state import TrainState
from slipform.train.step.step import set_train_mode, train_step
from tests.gpu.made_on_device import SPECS, open_loader
from tests.gpu.recorded import RecordedGraphs
from tests.pipelines import folders

CPU = torch.device("cpu")
KERNELS = (
    (draw_kernels, "draw"),
    (draw_kernels, "draw_sigmas"),
    (draw_kernels, "advance"),
    (triton_chains, "draw_chains"),
    (render_kernels, "render"),
    (triton_pictures, "sample"),
    (triton_operations, "find_tables"),
    (triton_operations, "operate"),
    (triton_pictures, "mix"),
    (triton_blur, "blur_columns"),
    (triton_blur, "blur_rows"),
)
PLAIN = [getattr(module, name) for module, name in KERNELS]
# Steps of each launch; 14 images in batches of 4 are three batches an epoch.
LAUNCHES = ([1, 1, 1], [1, 1, 1], [1, 1], [1], [1, 1, 1])
MOST = 3


def build(sets: list[str]) -> TrainState:
    """The state of a run, the same at each call."""
    config = resolve(None, ["augment.image_size=8", "train.channels_last=true", *sets])
    state = build_state(config, num_classes=4, process=Process(CPU))
    set_train_mode(state)
    return state


def rate(step: int) -> float:
    """A learning rate that differs in each step."""
    return 1.0 / (step + 1)


def tensors(state: TrainState) -> dict[str, Tensor]:
    """Everything that a step changes."""
    found = {f"model.{k}": v for k, v in state.model.state_dict().items()}
    if state.ema is not None:
        found |= {f"ema.{k}": v for k, v in state.ema.state_dict().items()}
    for i, optimizer in enumerate(state.optimizers):
        for k, values in enumerate(optimizer.state.values()):
            found |= {f"optimizer.{i}.{k}.{name}": value for name, value in values.items()}
    found |= {f"grad.{k}": p.grad for k, p in state.model.named_parameters() if p.grad is not None}
    return found


def in_graphs(
    folder: Path,
    sets: list[str],
    augment: dict[str, Any],
    launches: Any,
    most: int,
    observations: Observations,
) -> tuple[TrainState, Tensor, tuple[int, int], RecordedGraphs]:
    """Train in recorded graphs. most = 0: all steps are eager, on the same numbers."""
    for (module, name), kernel in zip(KERNELS, PLAIN, strict=True):
        setattr(module, name, kernel)
    graphs = RecordedGraphs(*KERNELS)
    state = build(sets)
    with open_loader(folder, ResidentGpuExecutor, **augment) as loader:
        batches = device_batches(loader.sequence)
        assert batches
        steps = GraphSteps(state, batches, graphs, MOST, observations)
        if not most:
            steps._warm = -1000  # more warm-up steps than there are steps: no capture
        losses = []
        for counts in launches:
            if loader.seen == 0:
                steps.begin()
            rates = [rate(state.step + i) for i in range(len(counts))]
            launched = steps.run(list(counts), rates)
            losses.append(launched.losses)
        position = loader.epoch, loader.seen
    return state, torch.cat(losses), position, graphs


def on_the_host(
    folder: Path,
    sets: list[str],
    augment: dict[str, Any],
    steps: list[int],
    observations: Observations,
) -> tuple[TrainState, Tensor]:
    """Train as `train` does: a Loader on CPU cores, one step at a time, rates in Python."""
    state, losses = build(sets), []
    with open_loader(folder, ResidentExecutor, **augment) as loader:

        def batches() -> Any:
            while True:
                yield from loader

        source = batches()
        for count in steps:
            set_learning_rate(state.optimizers, rate(state.step))
            result = train_step(state, source, count, None, observations.keep)
            losses.append(result.loss)
    return state, torch.stack(losses)


def compare(folder: Path, sets: list[str], augment: dict[str, Any], launches: Any) -> None:
    """Compare graphs with eager steps, bit for bit, and with `train`, up to rounding."""
    flat = [count for launch in launches for count in launch]
    seen = [Observations(14, CPU) for _ in range(3)]
    state, losses, position, graphs = in_graphs(folder, sets, augment, launches, MOST, seen[0])
    eager, eager_losses, eager_position, _ = in_graphs(folder, sets, augment, launches, 0, seen[1])
    assert graphs.captures >= 2
    assert graphs.replays < len(flat)  # some launches are several steps
    assert position == eager_position
    assert state.step == eager.step == len(flat)
    assert torch.equal(losses, eager_losses)
    want = tensors(eager)
    for name, value in tensors(state).items():
        assert torch.equal(value, want[name]), name
    _, host_losses = on_the_host(folder, sets, augment, flat, seen[2])
    codes, eager_codes, host_codes = (Codes(one.state()) for one in seen)
    assert codes.seen.any()
    assert np.array_equal(codes.values, eager_codes.values)
    assert np.array_equal(codes.seen, host_codes.seen)
    # A loss near the middle between two codes may be rounded to the other one.
    np.testing.assert_allclose(codes.losses, host_codes.losses, rtol=0.05, atol=0.02)
    # Pixels differ by 1e-5, rates in their last place. Levels of a policy near a half are rounded
    # differently, and each step enlarges the difference.
    alike = 1 if augment.get("policy") else len(flat)
    torch.testing.assert_close(losses[:alike], host_losses[:alike], rtol=5e-3, atol=5e-3)
    assert len(set(losses.tolist())) == len(flat)


if __name__ == "__main__":
    torch.set_num_threads(1)
    images = [folders.noise(9 + k, 14 - k // 2, k) for k in range(14)]
    folder = Path(folders.write_folder(Path(sys.argv[1]) / "raw", images))
    for case in json.loads(sys.argv[2]).values():
        augment = SPECS[case["spec"]] if "spec" in case else case.get("augment", {})
        compare(folder, case["sets"], augment, case.get("launches", LAUNCHES))
