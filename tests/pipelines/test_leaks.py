"""Nothing piles up: memory, threads and open files after many epochs, or many that were broken off."""

from __future__ import annotations

import ctypes
import gc
import os
import threading
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import psutil
import pytest

from pipelines.augment import Augmentation, ColorJitter
from pipelines.executors import NAMES
from pipelines.loader import Loader

SPEC = Augmentation(image_size=64, crop="random_resized", flip="horizontal", color_jitter=ColorJitter(0.2))


def _held() -> tuple[int, int, int]:
    """(resident bytes, open files, threads). Without what the allocator keeps for later: 600 host loaders, each left after a
    batch, hold 767 to 769 MiB trimmed, while untrimmed wanders between 780 and 980."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    process = psutil.Process()
    return process.memory_info().rss, len(os.listdir("/proc/self/fd")), threading.active_count()


def _grows(rounds: int, once: object) -> None:
    assert callable(once)
    after_ten = (0, 0, 0)
    for k in range(rounds):
        once()
        if k == 9:
            after_ten = _held()
    end = _held()
    assert end[0] <= after_ten[0] * 1.05, f"{after_ten[0] / 2**20:.0f} MiB after ten, {end[0] / 2**20:.0f} after {rounds}"
    assert end[0] - after_ten[0] <= 24 << 20, f"grew by {(end[0] - after_ten[0]) / 2**20:.1f} MiB"
    assert end[1:] == after_ten[1:]


@pytest.mark.parametrize("executor", NAMES)
@pytest.mark.parametrize("rounds", [40, pytest.param(200, marks=pytest.mark.slow)])
def test_epochs(shapes: Path, executor: str, rounds: int) -> None:
    with Loader(shapes, augment=SPEC, batch_size=48, executor=executor, threads=2) as loader:
        _grows(rounds, lambda: [batch.labels.sum() for batch in loader])


@pytest.mark.parametrize("executor", NAMES)
@pytest.mark.parametrize("rounds", [40, pytest.param(200, marks=pytest.mark.slow)])
def test_breaking_off(shapes: Path, executor: str, rounds: int) -> None:
    """The same loader, left after one batch, again and again."""
    with Loader(shapes, augment=SPEC, batch_size=48, executor=executor, threads=2) as loader:
        _grows(rounds, lambda: next(iter(loader)))


@pytest.mark.parametrize("executor", NAMES)
@pytest.mark.parametrize("rounds", [25, pytest.param(200, marks=pytest.mark.slow)])
def test_new_loaders_broken_off(shapes: Path, executor: str, rounds: int) -> None:
    """Built, used for one batch and closed."""

    def once() -> None:
        with Loader(shapes, augment=SPEC, batch_size=48, executor=executor, threads=2) as loader:
            next(iter(loader))

    _grows(rounds, once)


def test_streaming_takes_two_batches_and_little_more(folders: ModuleType, tmp_path: Path) -> None:
    """128 images of 224 px in float32 are 77 MB. Beside two of them: decoded images, the rest of DALI, mapped pages.
    Measured: 251 MB twice, and 454 with four buffers in place of two."""
    jpegs = [folders.jpeg(folders.smooth(300, 200 + k, seed=k)) for k in range(256)]
    folder = folders.write_folder(tmp_path / "set", jpegs)
    spec = Augmentation(image_size=32, crop="random_resized", flip="horizontal")
    with Loader(folder, augment=spec, batch_size=8, executor="host", threads=2) as loader:
        next(iter(loader))  # the kernels are compiled or read, DALI is loaded
    before = _held()[0]
    most = 0
    with Loader(folder, augment=replace(spec, image_size=224), batch_size=128, executor="host", threads=2) as loader:
        for _ in range(10):
            for _ in loader:
                most = max(most, psutil.Process().memory_info().rss)
    assert 140e6 < most - before < 290e6, f"{(most - before) / 1e6:.0f} MB"
