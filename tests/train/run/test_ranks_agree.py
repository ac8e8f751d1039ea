"""Several processes decide once: each would measure something else, and all get what rank 0 has."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch

from slipform.pipelines.manifest import Manifest, read_manifest
from slipform.train.config.run_config import RunConfig
from slipform.train.machine.distributed import Process
from slipform.train.run import auto, training_data
from slipform.train.run.autosize import BatchSize
from slipform.train.run.decide import Decision
from tests.train.run.scripted import quick

T = TypeVar("T")
RANKS = 3


class Together(Process):
    """A process of several in the threads of one: they exchange values as `all_gather` does."""

    values: list[Any]
    barrier: threading.Barrier

    def all_gather(self, value: Any) -> list[Any]:
        self.values[self.rank] = value
        self.barrier.wait()
        found = list(self.values)
        self.barrier.wait()
        return found


@pytest.fixture
def on_all_ranks() -> Iterator[Callable[[Callable[[Process], T]], list[T]]]:
    """Calls a function on each rank. Returns what the ranks return."""
    values, barrier = [None] * RANKS, threading.Barrier(RANKS)

    def call(function: Callable[[Process], T]) -> list[T]:
        def on(rank: int) -> T:
            process = Together(torch.device("cpu"), rank, RANKS)
            object.__setattr__(process, "values", values)
            object.__setattr__(process, "barrier", barrier)
            try:
                return function(process)
            except BaseException:
                barrier.abort()  # the others do not wait
                raise

        return list(pool.map(on, range(RANKS)))

    with ThreadPoolExecutor(RANKS) as pool:
        yield call


def test_steps_batch_size_and_executor(
    on_all_ranks: Any, shapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def sized(config: RunConfig, manifest: Manifest, process: Process) -> BatchSize:
        return BatchSize(16 + process.rank, f"rank {process.rank}")

    def decided(config: RunConfig, manifest: Manifest, process: Process) -> Decision:
        calls.append(process.rank)
        names = ("bf16", "fp32", "fp32")
        found = config.replace("train.precision", names[process.rank])
        for name, value in (("channels_last", process.rank == 0), ("compile", "off")):
            found = found.replace(f"train.{name}", value)
        return Decision(found, f"rank {process.rank}", seconds=float(process.rank))

    def picked(
        config: RunConfig, manifest: Manifest, process: Process, spent: float
    ) -> tuple[str, str]:
        return ("dali", "host", "resident")[process.rank], f"rank {process.rank} picks"

    monkeypatch.setattr(auto, "find_batch_size", sized)
    monkeypatch.setattr(auto, "decide", decided)
    monkeypatch.setattr(auto, "pick_executor", picked)
    config, manifest = quick(batch_size="auto"), read_manifest(shapes)

    def without_auto(process: Process) -> tuple[RunConfig, str, list[str]]:
        messages: list[str] = []
        return *auto.without_auto(config, manifest, process, messages), messages

    first, *others = on_all_ranks(without_auto)
    assert first[0].train.precision == "bf16"
    assert first[0].train.channels_last is True
    assert first[0].train.batch_size == 16
    assert first[0].data.executor == "dali"
    assert first[1] == "rank 0; rank 0 picks"
    assert others == [first] * (RANKS - 1)
    assert calls == [0], "only one process measures"


def test_executors_of_the_loaders(
    on_all_ranks: Any, shapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memory that is free decides, and processes see different amounts of it."""
    names = {0: "host", 1: "resident", 2: "dali"}
    rank_of: dict[int, int] = {}

    def chosen(*_: object) -> str:
        return names[rank_of[threading.get_ident()]]

    class Opened:
        def __init__(self, executor: str, rank: int) -> None:
            self.executor_name = names[rank] if executor == "auto" else executor
            self.decoder_share = None

    def opened(config: RunConfig, split: str, process: Process, **options: Any) -> Opened:
        return Opened(options["executor"], process.rank)

    monkeypatch.setattr(training_data, "chosen", chosen)
    monkeypatch.setattr(training_data, "open_loader", opened)
    config, manifest = quick().replace("data.folder", str(shapes)), read_manifest(shapes)

    def executors(process: Process) -> tuple[str, dict[str, str]]:
        rank_of[threading.get_ident()] = process.rank
        loader = training_data.open_training_data(config, None, process)
        found = training_data.evaluation_executors(config, None, manifest, process)
        return loader.executor_name, found

    assert on_all_ranks(executors) == [("host", {"val": "host", "test": "host"})] * RANKS
