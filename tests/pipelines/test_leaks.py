"""Memory, threads and open files do not grow with complete or interrupted epochs."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from slipform.pipelines.loader import Loader
from slipform.pipelines.machine import peak_resident_bytes, reset_peak
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.plan.color_jitter import ColorJitter
from tests.pipelines import folders
from tests.pipelines.epochs import ON_CPU as NAMES
from tests.warm import Warm

SPEC = Augmentation(
    image_size=64, crop="random_resized", flip="horizontal", color_jitter=ColorJitter(0.2)
)
BATCH_BYTES = 48 * 64 * 64 * 3 * 4
Held = tuple[int, int, int]


def _held() -> Held:
    """(resident bytes, open files, threads), after the allocator has returned free memory. 600 host
    loaders, each left after one batch, hold 767 to 769 MiB then, and between 780 and 980 MiB
    otherwise."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    process = psutil.Process()
    return process.memory_info().rss, len(os.listdir("/proc/self/fd")), threading.active_count()


def _measure(folder: Path, executor: str, rounds: dict[str, int]) -> dict[str, tuple[Held, Held]]:
    """For each kind of use: the resources after ten rounds and after all rounds."""

    def load() -> Loader:
        return Loader(folder, augment=SPEC, batch_size=48, executor=executor, threads=2)

    def epoch(loader: Loader) -> None:
        for batch in loader:
            batch.labels.sum()

    def leave(loader: Loader) -> None:
        next(iter(loader))

    def leave_new(_: Loader) -> None:
        with load() as fresh:
            next(iter(fresh))

    uses = {"epochs": epoch, "left": leave, "new": leave_new}
    found = {}
    for kind, number in rounds.items():
        with load() as loader:
            for _ in range(10):
                uses[kind](loader)
            after_ten = _held()
            for _ in range(number - 10):
                uses[kind](loader)
            found[kind] = after_ten, _held()
    return found


def _in_a_fork(warm: Warm, measure: Callable[..., Any], *arguments: object) -> Any:
    """The loaders run in a fork of the warm process, which has made no batch. It stays within 5 MiB
    for 400 epochs. The allocator of pytest's process holds memory of earlier tests, which varies
    (by 24.4 MiB once)."""
    program = (
        "import json, sys\n"
        f"from tests.pipelines.test_leaks import {measure.__name__} as measure\n"
        "print(json.dumps(measure(*json.loads(sys.argv[1]))))"
    )
    ended = warm.run(program, json.dumps(arguments, default=str))
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


SHORT = {"epochs": 25, "left": 25, "new": 25}  # a batch that is lost in each round: 15
LONG = dict.fromkeys(SHORT, 200)


@pytest.mark.parametrize(
    ("executor", "rounds"),
    [
        pytest.param("host", SHORT, id="host-short"),
        *(pytest.param(n, LONG, id=f"{n}-long", marks=pytest.mark.slow) for n in NAMES),
    ],
)
def test_memory_threads_and_files_do_not_grow(
    shapes: Path, executor: str, rounds: dict[str, int], warm_process: Warm
) -> None:
    """Complete epochs; one loader that is left after one batch, many times; many loaders, each
    closed after one batch.

    A buffer takes memory once it is written to, which may first happen after the tenth round: four
    buffers, and as much again for decoded images and free memory between others. A batch that is
    lost in each round is 15 batches or more."""
    found = _in_a_fork(warm_process, _measure, shapes, executor, rounds)
    for kind, (after_ten, end) in found.items():
        grown = (end[0] - after_ten[0]) / BATCH_BYTES
        assert grown <= 10, f"{kind}: {grown:.1f} batches more after {rounds[kind]} rounds"
        assert end[1:] == after_ten[1:], kind


def _streaming(folder: Path) -> int:
    """The peak memory of streaming at 224 px, minus the memory after the same loader at 32 px."""
    spec = Augmentation(image_size=32, crop="random_resized", flip="horizontal")
    with Loader(folder, augment=spec, batch_size=8, executor="host", threads=2) as loader:
        next(iter(loader))  # the kernels are compiled or read, DALI is loaded
    before = _held()[0]
    reset_peak("cpu")
    with Loader(
        folder, augment=replace(spec, image_size=224), batch_size=128, executor="host", threads=2
    ) as loader:
        for _ in range(4):
            for _ in loader:
                pass
    return peak_resident_bytes() - before


def test_streaming_takes_two_batches_and_little_more(tmp_path: Path, warm_process: Warm) -> None:
    """The loader has two buffers. The consumer holds a batch while the next one is made, so both
    are written to. A buffer that was handed out is replaced by a new one: where the threads are
    ahead, the consumer holds one batch, gets another one, and two are made. So two to four batches
    are in memory, and half a batch of decoded images and mapped pages. With four buffers instead of
    two it was six. The bound is between."""
    jpegs = [folders.jpeg(folders.smooth(300, 200 + k, seed=k)) for k in range(256)]
    folder = folders.write_folder(tmp_path / "set", jpegs)
    taken = _in_a_fork(warm_process, _streaming, folder)
    batches = taken / (128 * 224 * 224 * 3 * 4)
    assert 1.5 < batches < 5.5, f"{batches:.2f} batches"
