"""Trial steps whose seconds are given, with a simulated clock, for the tests of `decide`.

In: a MonkeyPatch, the seconds of a step by variant and images. Out: decisions, and the steps that
they took.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from slipform.pipelines import profile
from slipform.pipelines.manifest import Manifest
from slipform.train.config.run_config import RunConfig
from slipform.train.machine.distributed import Process
from slipform.train.run import budget, trial
from slipform.train.run import decide as deciding
from slipform.train.run.decide import Decision, decide
from slipform.train.run.trial import Variant

__all__ = ["BF16", "CPU", "FP32", "Scripted", "quick", "script"]

CPU = Process(torch.device("cpu"))
FP32 = Variant("fp32", True, "off")
BF16 = Variant("bf16", True, "off")


def quick(epochs: int = 100, **train: Any) -> RunConfig:
    """Settings with "auto": a tiny net, 8 images in a batch.

    Args:
        epochs: Passes over the images.
        train: Other settings of [train].
    """
    config = RunConfig().replace("model.name", "tiny").replace("augment.image_size", 32)
    for name, value in ({"batch_size": 8, "epochs": epochs} | train).items():
        config = config.replace(f"train.{name}", value)
    return config


class Scripted:
    """A Trial whose steps take the seconds of `seconds`.

    Args:
        config: The settings of the run.

    Attributes:
        now: The simulated clock.
        steps: The steps so far: variant and images.
        seconds: The seconds for a batch.
        batch_size: Images in a batch.
    """

    now = 0.0
    steps: ClassVar[list[tuple[Variant, int]]] = []
    seconds: Callable[[Variant, int], float] = staticmethod(lambda variant, size: 1.0)

    def __init__(self, config: RunConfig, *_: Any) -> None:
        assert isinstance(config.train.batch_size, int)
        self.batch_size = config.train.batch_size
        self._accumulate = config.train.accumulate

    def __enter__(self) -> Scripted:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def set_batch_size(self, size: int) -> None:
        """See `Trial.set_batch_size`."""
        self.batch_size = size

    def release(self) -> None:
        """See `Trial.release`."""

    def step(self, variant: Variant) -> float:
        """See `Trial.step`."""
        self.steps.append((variant, self.batch_size))
        seconds = Scripted.seconds(variant, self.batch_size)
        Scripted.now += seconds * self._accumulate
        return seconds


def script(
    monkeypatch: pytest.MonkeyPatch, manifest: Manifest, folder: Path
) -> Callable[..., tuple[Decision, list[tuple[Variant, int]]]]:
    """Replace the steps, the clock, and the profile of the machine.

    Args:
        monkeypatch: Undoes it.
        manifest: Of the dataset.
        folder: The profile is `cache/tune.json` there.

    Returns:
        A function: seconds of a step by variant and images, settings, and options of `decide`, to
        the decision and the steps. bfloat16 is a variant on every processor.
    """
    for module in (profile, budget):
        monkeypatch.setattr(module, "profile_path", lambda: folder / "cache" / "tune.json")
    monkeypatch.setattr(trial, "has_bfloat16", lambda device: True)
    monkeypatch.setattr(deciding, "Trial", Scripted)
    monkeypatch.setattr(time, "perf_counter", lambda: Scripted.now)

    def run(
        seconds: Callable[[Variant, int], float],
        config: RunConfig,
        process: Process = CPU,
        **options: Any,
    ) -> tuple[Decision, list[tuple[Variant, int]]]:
        monkeypatch.setattr(Scripted, "seconds", staticmethod(seconds))
        monkeypatch.setattr(Scripted, "steps", [])
        monkeypatch.setattr(Scripted, "now", 0.0)
        return decide(config, manifest, process, **options), Scripted.steps

    return run
