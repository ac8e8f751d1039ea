"""`bench train`: a slow loader shows its stall, and what a point's process may do."""

import math
import multiprocessing
import signal
import time
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

import pytest
import torch

from slipform.bench.race.measure import Effort
from slipform.bench.race.work import usual_work
from slipform.bench.race.worker import Died, Workplace, isolated
from slipform.bench.suites.train import Point, feed, run_config
from slipform.pipelines.batch import Batch
from slipform.pipelines.loader import Loader
from slipform.train.machine.distributed import Process
from slipform.train.step.build import build_state
from slipform.train.step.step import set_train_mode, train_step

EFFORT = Effort(rounds=1, seconds=1.0, warmup_seconds=0.0, min_batches=5)


def test_a_slow_loader_shows_the_stall_it_must_show(shapes_raw: Path) -> None:
    """The real loader and the real step; each batch is held back for as long as three steps take:
    3/4 of the time is waiting."""
    point = Point(str(shapes_raw), "tiny", 40, precision="fp32")
    work = usual_work(shapes_raw, batch_size=40, cores=1, device="cpu", dtype="float32")
    process = Process(torch.device("cpu"))
    with Loader(shapes_raw, augment=work.augment, batch_size=40, executor="resident") as loader:
        state = build_state(
            run_config(point, work), num_classes=loader.manifest.num_classes, process=process
        )
        set_train_mode(state)
        fixed = next(iter(loader))
        step_seconds = []

        def step(batch: Batch) -> None:
            began = time.perf_counter()
            train_step(state, batch)
            step_seconds.append(time.perf_counter() - began)

        alone = feed(repeat(fixed), step, "cpu", EFFORT)
        pause = 3 * 40 / alone["images_per_second"]

        def held_back() -> Iterator[Batch]:
            while True:
                for batch in loader:
                    time.sleep(pause)
                    yield batch

        step_seconds.clear()
        stalled = feed(held_back(), step, "cpu", EFFORT)
    assert alone["wait_share"] < 0.05
    steps = sum(step_seconds) / len(step_seconds)
    assert stalled["wait_share"] == pytest.approx(pause / (pause + steps), abs=0.12)
    assert stalled["images_per_second"] == pytest.approx(40 / (pause + steps), rel=0.3)
    assert stalled["images_per_second"] < 0.6 * alone["images_per_second"]


def test_calls_in_other_processes() -> None:
    with Workplace() as workplace:
        assert workplace.call(math.factorial, 5) == 120
        assert workplace.call(math.sqrt, -1) == Died("ValueError: math domain error")
        assert (
            workplace.call(multiprocessing.get_start_method) == "fork"
        )  # and an exception does not end it
    assert isolated(signal.raise_signal, signal.SIGKILL) == Died(
        "its process ended with status -9", out_of_memory=True
    )
    assert isolated(time.sleep, 60, seconds=0.5) == Died("gave no result within 0 seconds")
