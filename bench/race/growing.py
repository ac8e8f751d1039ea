"""Time and memory of one part of the work, with a number of generated samples: `bench growth`.

In: the number of samples. Out: figures. Each function is called in a process of its own: its memory
is the peak above that of the imports.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from slipform.bench.race.measure import estimate
from slipform.bench.result.result import Estimate
from slipform.pipelines.loader import Loader
from slipform.pipelines.machine import peak_resident_bytes, reset_peak, resident_now
from slipform.pipelines.order import EpochOrder
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.preprocess.build import build_dataset
from slipform.preprocess.encode import Encoding
from slipform.preprocess.source import Arrays, SampleSource

__all__ = ["generate", "measure_loader", "measure_order", "measure_prep"]

_SIDE = 8  # of the images, in pixels
_ROUNDS = 7
_BATCH_SIZE = 512
_BATCHES = 20  # in a round


def _memory(before: int, count: int, data_bytes: int = 0) -> dict[str, Estimate]:
    """The peak of this process above `before`, without generated data that the caller holds."""
    grown = float(max(0, peak_resident_bytes() - before - data_bytes))
    return {"above_imports_bytes": estimate([grown]), "sample_bytes": estimate([grown / count])}


def measure_order(count: int, block: int = 0) -> dict[str, Estimate]:
    """Measure the order of an epoch, in this process.

    Args:
        count: The number of samples.
        block: See `slipform.Loader`.

    Returns:
        sample_seconds and memory.
    """
    EpochOrder(1000, 1, block=block).samples(0)  # loads the kernel
    reset_peak("cpu")
    order, before, seconds = EpochOrder(count, 1, block=block), resident_now(), []
    for epoch in range(_ROUNDS if count <= 10**7 else 3):
        began = time.perf_counter()
        order.samples(epoch)
        seconds.append((time.perf_counter() - began) / count)
    return {"sample_seconds": estimate(seconds), **_memory(before, count)}


def generate(count: int) -> tuple[SampleSource, int]:
    """Make raw images of 8 px with ten classes.

    Args:
        count: The number of samples of train; test has one.

    Returns:
        The SampleSource, and the bytes of its pixels.
    """
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (count, _SIDE, _SIDE, 3), np.uint8)
    labels = np.arange(count, dtype=np.int64) % 10
    splits = {
        "train": Arrays(pixels, labels, "train"),
        "test": Arrays(pixels[:1], labels[:1], "test"),
    }
    source = SampleSource(
        dataset="growth",
        classes=tuple(str(number) for number in range(10)),
        splits=splits,
        split_rule="generated",
        options={},
    )
    return source, pixels.nbytes + labels.nbytes


def measure_prep(folder: str, count: int) -> dict[str, Estimate]:
    """Write a dataset of generated images, in this process.

    Args:
        folder: The dataset folder to write.
        count: The number of samples.

    Returns:
        sample_seconds and memory.
    """
    reset_peak("cpu")
    before = resident_now()
    source, num_bytes = generate(count)
    began = time.perf_counter()
    build_dataset(source, Path(folder), encoding=Encoding(mode="raw"))
    seconds = (time.perf_counter() - began) / count
    return {"sample_seconds": estimate([seconds]), **_memory(before, count, num_bytes)}


def measure_loader(folder: str, executor: str, block: int = 0) -> dict[str, Estimate]:
    """Measure a loader, in this process.

    Args:
        folder: The dataset folder.
        executor: The name of the executor.
        block: See `Loader`.

    Returns:
        start_up_seconds (from nothing to the first batch), first_epoch_sample_seconds,
        sample_seconds (of later epochs), and memory.
    """
    spec = Augmentation(image_size=_SIDE, crop="random", padding=1, resize=_SIDE)
    with Loader(folder, "test", spec, batch_size=1, training=False) as small:
        next(iter(small))  # loads the kernels
    reset_peak("cpu")
    before, began, seconds = resident_now(), time.perf_counter(), []
    with Loader(
        folder, "train", spec, batch_size=_BATCH_SIZE, executor=executor, block=block,
        reuse_buffers=True,
    ) as loader:  # fmt: skip
        loop = iter(loader)
        next(loop)
        start_up, began = time.perf_counter() - began, time.perf_counter()
        rest = sum(len(batch) for batch in loop)
        first_epoch, loop = (time.perf_counter() - began) / max(1, rest), iter(loader)
        for _ in range(_ROUNDS):
            began, left = time.perf_counter(), _BATCHES
            while left:
                for _ in loop:
                    left -= 1
                    if not left:
                        break
                else:
                    loop = iter(loader)
            seconds.append((time.perf_counter() - began) / (_BATCHES * _BATCH_SIZE))
        return {
            "start_up_seconds": estimate([start_up]),
            "first_epoch_sample_seconds": estimate([first_epoch]),
            "sample_seconds": estimate(seconds),
            **_memory(before, loader.num_samples),
        }
