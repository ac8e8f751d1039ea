"""Several steps in a launch: the steps of each launch, and the conditions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from slipform.pipelines.errors import ConfigError
from slipform.pipelines.loader import Loader
from slipform.train.config.run_config import RunConfig
from slipform.train.config.sections import TrainConfig
from slipform.train.machine.distributed import Process
from slipform.train.run.counters import Counters
from slipform.train.run.steps import LoaderSteps, next_counts, open_steps

Small = Callable[..., RunConfig]
GPU = torch.device("cuda", 0)


def _epoch(config: TrainConfig, step: int, left: int) -> list[list[int]]:
    launches = []
    while left:
        counts = next_counts(config, step, left)
        launches.append(counts)
        step, left = step + len(counts), left - sum(counts)
    return launches


def test_a_launch_ends_where_the_loop_has_work() -> None:
    config = TrainConfig(steps_per_launch=8, log_every_steps=20, checkpoint_every_steps=14)
    lengths = [len(counts) for counts in _epoch(config, 0, 45)]
    # After 1: the first images; 10: the estimate; 14, 28, 42: checkpoints; 20, 40: losses; 45: end.
    assert lengths == [1, 8, 1, 4, 6, 8, 8, 4, 2, 3]


def test_one_step_a_launch_is_one_step_after_the_other() -> None:
    assert _epoch(TrainConfig(), 100, 3) == [[1], [1], [1]]


def test_the_last_step_of_an_epoch_takes_what_is_left() -> None:
    config = TrainConfig(steps_per_launch=4, accumulate=3)
    assert _epoch(config, 20, 14) == [[3, 3, 3, 3], [2]]


def _open(config: RunConfig, process: Process, loader: Any) -> Any:
    return open_steps(config, None, loader, Counters(), process)  # type: ignore[arg-type]


def test_a_cpu_takes_the_same_setting(small: Small, shapes: Path) -> None:
    steps = _open(small("train.steps_per_launch=8"), Process(torch.device("cpu")), None)
    assert isinstance(steps, LoaderSteps)


def test_settings_that_exclude_several_steps_in_a_launch(small: Small, shapes: Path) -> None:
    config = small("train.steps_per_launch=8")
    assert isinstance(_open(small(), Process(GPU), None), LoaderSteps)
    with pytest.raises(ConfigError, match="one process"):
        _open(config, Process(GPU, rank=0, world_size=2), None)
    own = small("train.steps_per_launch=8", "augment.own.any=true")
    with pytest.raises(ConfigError, match=r"own augmentations \(any\) are drawn on the host"):
        _open(own, Process(GPU), None)
    with (
        Loader(shapes, batch_size=8, executor="host") as loader,
        pytest.raises(ConfigError, match=r'steps_per_launch = 8.*executor = "resident"'),
    ):
        _open(config, Process(GPU), loader)
