"""Epochs as dictionaries, to compare loaders with each other.

In: a dataset folder. Out: a loader, and the content of an epoch: index -> (label, pixels).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from slipform.pipelines.executors import GPU_ONLY, NAMES
from slipform.pipelines.loader import Loader
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.plan.color_jitter import ColorJitter

ON_CPU = tuple(name for name in NAMES if name not in GPU_ONLY)
Epoch = dict[int, tuple[int, np.ndarray]]
SPEC = Augmentation(
    image_size=24,
    crop="random_resized",
    flip="horizontal",
    color_jitter=ColorJitter(0.2, 0.2, 0.2),
    erase=0.3,
)
LEVEL = 255 / 2


def open_loader(
    folder: Path, executor: str = "resident", batch_size: int = 20, **options: Any
) -> Loader:
    """A loader with batches of 20 samples, two threads and seed 5. options: those of Loader."""
    return Loader(
        folder,
        options.pop("split", "train"),
        options.pop("augment", SPEC),
        batch_size=batch_size,
        **{"executor": executor, "threads": 2, "seed": 5} | options,
    )


def small_loader(folder: Path, executor: str = "host", **options: Any) -> Loader:
    """An evaluation loader with batches of 4 samples of 16 px and one thread."""
    return Loader(
        folder,
        augment=Augmentation(image_size=16, resize=18),
        batch_size=4,
        training=False,
        executor=executor,
        threads=1,
        **options,
    )


def read_epoch(loader: Loader) -> Epoch:
    """index -> (label, pixels) for the rest of an epoch. No index occurs twice."""
    found: Epoch = {}
    for batch in loader:
        for index, label, image in zip(
            batch.indices.tolist(), batch.labels.tolist(), batch.images.numpy(), strict=True
        ):
            if index >= 0:
                assert index not in found
                found[index] = (label, image.copy())
    return found


def assert_one_epoch_everywhere(folder: Path, spec: Augmentation) -> Epoch:
    """`resident` gives the pixels of `host`, also if its loader is replaced after 4 samples by
    those of two processes. Returns the epoch of `host`."""
    with open_loader(folder, "host", 4, augment=spec) as loader:
        want = read_epoch(loader)
    found: dict[int, np.ndarray] = {}
    with open_loader(folder, "resident", 4, augment=spec) as first:
        batch = next(iter(first))
        found |= dict(zip(batch.indices.tolist(), batch.images.numpy().copy(), strict=True))
        state = first.state_dict()
    for rank in range(2):
        with open_loader(folder, "resident", 2, augment=spec, rank=rank, world_size=2) as second:
            second.load_state_dict(state)
            found |= {index: image for index, (_, image) in read_epoch(second).items()}
    assert sorted(found) == sorted(want)
    for index, (_, image) in want.items():
        np.testing.assert_array_equal(found[index], image)
    return want


def assert_same(got: Epoch, want: Epoch) -> None:
    """The same samples in the same order. The pixels are equal within the tolerance of
    executors."""
    assert list(got) == list(want)
    for index, (label, image) in want.items():
        assert got[index][0] == label
        off = np.abs(got[index][1] - image) * LEVEL
        assert off.mean() <= 1
        assert (off <= 4).mean() >= 0.99
