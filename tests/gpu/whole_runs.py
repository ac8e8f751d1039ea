"""Runs `train` with several steps in a launch, in a model of CUDA graphs and Triton's interpreter.

In: a folder for the dataset and the runs. Out: nothing. An assertion fails if a run that was
stopped and resumed differs from an undisturbed one in any bit, or if several steps in a launch
differ from one by more than rounding. It runs in its own process, because TRITON_INTERPRET is read
at import.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from threading import RLock
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"
sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from triton.runtime import interpreter

from slipform.pipelines.errors import Interrupted
from slipform.pipelines.executors import resident
from slipform.pipelines.executors.resident_gpu import ResidentGpuExecutor
from slipform.train.config.resolve import resolve
from slipform.train.config.run_config import RunConfig
from slipform.train.records import read_metrics
from slipform.train.run import loop, steps
from slipform.train.run.best import load_best
from slipform.train.run.loop import fit
from slipform.train.scores.observations import Codes
from tests.gpu.graph_steps import KERNELS, PLAIN
from tests.gpu.recorded import RecordedGraphs
from tests.pipelines import folders
from tests.train.drawing import without_figures
from tests.train.run.interrupted import assert_same

# 14 images in batches of 3 are four steps an epoch. In epoch 2 a layer stops learning; in epoch 3
# the images are larger.
SETS = [
    "model.name=tiny",
    "model.options={width=8}",
    "optimizer.name=sgd",
    "optimizer.momentum=0.9",
    "optimizer.lr=0.05",
    "schedule.name=one_cycle",
    "augment.image_size=8",
    "augment.crop=random_resized",
    "augment.flip=both",
    "augment.mixup=0.3",
    "augment.color_jitter.hue=0.1",
    "train.image_sizes=[[1, 8], [3, 10]]",
    "train.epochs=3",
    "train.batch_size=3",
    "train.precision=fp32",
    "train.channels_last=true",
    "train.compile=off",
    "train.ema=0.9",
    "train.clip_norm=5.0",
    "train.freeze_at_epoch=2",
    "train.freeze_late=['features.0']",
    "train.checkpoint_every_steps=4",
    "train.log_every_steps=2",
    "data.executor=resident",
    "data.threads=1",
    "records.sinks=[]",
    "records.samples=true",
]
SAMPLES = "*/samples/epoch-{:04}.safetensors"
made: list[RecordedGraphs] = []


def config(launch: int) -> RunConfig:
    return resolve(None, [*SETS, f"train.steps_per_launch={launch}"])


def graphs(device: torch.device) -> RecordedGraphs:
    for (module, name), kernel in zip(KERNELS, PLAIN, strict=True):
        setattr(module, name, kernel)
    made.append(RecordedGraphs(*KERNELS))
    return made[-1]


def one_at_a_time(patch: pytest.MonkeyPatch) -> None:
    """The interpreter replaces functions of Triton during a call: only one thread may use it."""
    lock, call = RLock(), interpreter.GridExecutor.__call__

    def locked(*arguments: Any, **options: Any) -> Any:
        with lock:
            return call(*arguments, **options)

    patch.setattr(interpreter.GridExecutor, "__call__", locked)


def stopped(patch: pytest.MonkeyPatch, data: Path, run: Path, step: int) -> None:
    """Train until the launch that has a step, then stop."""
    original = loop._after_steps

    def after(run: Any, *arguments: Any, **options: Any) -> None:
        if run.state.step >= step:
            run.stop_requested.set()
        original(run, *arguments, **options)

    patch.setattr(loop, "_after_steps", after)
    with pytest.raises(Interrupted):
        fit(config(3), data, run, device="cpu", quiet=True)
    patch.setattr(loop, "_after_steps", original)


def main(folder: Path, patch: pytest.MonkeyPatch) -> None:
    without_figures(patch)
    one_at_a_time(patch)
    patch.setattr(resident, "build", ResidentGpuExecutor)
    images = [folders.noise(9 + k, 14 - k // 2, k) for k in range(14)]
    data = Path(folders.write_folder(folder / "raw", images))
    fit(config(1), data, folder / "one", device="cpu", quiet=True)
    patch.setitem(steps._GRAPHS, "cpu", graphs)
    fit(config(3), data, folder / "three", device="cpu", quiet=True)
    assert len(made) == 2  # the second one for larger images
    assert all(one.replays for one in made)
    for step in (6,):  # inside an epoch, after the freeze
        run = folder / f"stopped-{step}"
        stopped(patch, data, run, step)
        fit(config(3), data, run, device="cpu", resume=True, quiet=True)
        assert_same(folder / "three", run)
    one, three = ([x["loss"] for x in read_metrics(folder / n, "step")] for n in ("one", "three"))
    assert len(three) == 12
    assert len(set(three)) == 12
    np.testing.assert_allclose(one, three, rtol=5e-3, atol=5e-3)
    rates = [[x["lr"] for x in read_metrics(folder / n, "step")] for n in ("one", "three")]
    assert rates[0] == rates[1]
    a, b = load_best(folder / "one"), load_best(folder / "three")
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=5e-3, atol=5e-3)
    for epoch in (1, 2, 3):
        codes = {path.parts[-3]: _codes(path) for path in folder.glob(SAMPLES.format(epoch))}
        assert len(codes) == 3
        for name, found in codes.items():
            assert np.array_equal(Codes(found).seen, Codes(codes["one"]).seen)
            assert name == "one" or np.array_equal(found, codes["three"])
        assert Codes(codes["one"]).seen.sum() >= 3


def unfrozen(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """A recorded step must not go on without the layers that learn from epoch 3 on."""
    without_figures(patch)
    one_at_a_time(patch)
    patch.setattr(resident, "build", ResidentGpuExecutor)
    data = Path(folders.write_folder(folder / "raw", [folders.noise(9, 10, k) for k in range(12)]))
    sets = [
        *(text for text in SETS if "freeze" not in text and "sizes" not in text),
        "model.freeze=['features.0']",
        "train.unfreeze_at_epoch=3",
        "train.epochs=3",
    ]
    best = {}
    for launch in (1, 2):
        if launch > 1:
            patch.setitem(steps._GRAPHS, "cpu", graphs)
        chosen = resolve(None, [*sets, f"train.steps_per_launch={launch}"])
        fit(chosen, data, folder / str(launch), device="cpu", quiet=True)
        best[launch] = load_best(folder / str(launch))
    assert made[-1].replays
    for name in best[1]:
        torch.testing.assert_close(best[1][name], best[2][name], rtol=5e-3, atol=5e-3)


def _codes(path: Path) -> np.ndarray:
    """The codes of an epoch, int16 [14]."""
    found = load_file(path)
    upper = found["loss"].astype(np.int16) - 128
    return upper * np.int16(256) + found["margin"].astype(np.int16)


if __name__ == "__main__":
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as monkeypatch:
        (unfrozen if "unfrozen" in sys.argv else main)(Path(sys.argv[1]), monkeypatch)
