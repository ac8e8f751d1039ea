"""Batches: their own memory, unpacking, moving to a device, counts."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from slipform.pipelines.batch import Batch, Mix
from slipform.pipelines.loader import Loader
from slipform.pipelines.plan.augmentation import Augmentation
from tests.pipelines.epochs import ON_CPU as NAMES

SPEC = Augmentation(image_size=24, crop="random_resized", flip="horizontal")


def _loader(folder: Path, **options: Any) -> Loader:
    options = {"batch_size": 20, "executor": "resident", "threads": 2, "augment": SPEC} | options
    return Loader(folder, options.pop("split", "train"), **options)


@pytest.mark.parametrize("executor", NAMES)
@pytest.mark.parametrize(
    ("dtype", "augment"),
    [
        (torch.bfloat16, dataclasses.replace(SPEC, mixup=0.4)),
        pytest.param(torch.float32, dataclasses.replace(SPEC, mixup=0.4), marks=pytest.mark.slow),
        pytest.param(torch.bfloat16, SPEC, marks=pytest.mark.slow),
        (torch.float32, SPEC),
    ],
)
def test_a_batch_has_memory_of_its_own(
    shapes: Path, executor: str, dtype: torch.dtype, augment: Augmentation
) -> None:
    """A list of all batches of an epoch keeps their content. Writing to one batch changes neither
    another one nor the order of the next epoch."""
    options: dict[str, Any] = {"executor": executor, "dtype": dtype, "augment": augment}
    with _loader(shapes, **options, reuse_buffers=True) as loader:
        once = [
            (b.indices.clone(), b.images.clone(), b.labels.clone())
            for _ in range(2)
            for b in loader
        ]
    with _loader(shapes, **options) as loader:
        kept = [batch for _ in range(2) for batch in list(loader)]
    assert len({batch.images.data_ptr() for batch in kept}) == len(kept) == len(once)
    for batch, (indices, images, labels) in zip(kept, once, strict=True):
        assert torch.equal(batch.indices, indices)
        assert torch.equal(batch.images, images)
        assert torch.equal(batch.labels, labels)
    with _loader(shapes, **options) as loader:
        first = next(iter(loader))
        for tensor in (first.images, first.labels, first.indices):
            tensor.fill_(7)
        loader.set_epoch(0)
        again = next(iter(loader))
        assert torch.equal(again.indices, once[0][0])
        assert torch.equal(again.images, once[0][1])


@pytest.mark.parametrize("executor", ["host", "resident"])
def test_buffers_are_reused_with_the_option(shapes: Path, executor: str) -> None:
    with _loader(shapes, executor=executor, reuse_buffers=True, prefetch=2) as loader:
        assert len({batch.images.data_ptr() for batch in loader}) <= 3 < len(loader)


def test_a_batch_unpacks_as_images_and_labels(shapes: Path) -> None:
    with _loader(shapes) as loader:
        seen = 0
        for images, labels in loader:
            assert images.shape == (20, 3, 24, 24)
            assert labels.shape == (20,)
            seen += len(labels)
        assert seen == 240


def _move(value: Any, to: torch.device) -> Any:
    """Frameworks move unknown objects by `.to` if there is one, else field by field on a copy
    (apply_to_collection of lightning_utilities 0.11)."""
    if isinstance(value, Tensor):
        return value.to(to)
    if not dataclasses.is_dataclass(value):
        return value
    result = copy.deepcopy(value)
    for field in dataclasses.fields(value):
        setattr(result, field.name, _move(getattr(value, field.name), to))
    return result


def test_frameworks_can_move_a_batch() -> None:
    labels = torch.arange(2)
    batch = Batch(torch.rand(2, 3, 4, 4), labels, labels, Mix(labels, torch.rand(2)))
    for moved in (
        batch.to("meta"),
        batch.to(torch.device("meta"), non_blocking=True),
        _move(batch, torch.device("meta")),
    ):
        assert isinstance(moved, Batch)
        assert moved.mix is not None
        for tensor in (moved.images, moved.labels, moved.mix.labels, moved.mix.weight):
            assert tensor.device.type == "meta"
        assert len(moved) == 2
    assert batch.to("meta").indices.device.type == "cpu"
    assert batch.to("cpu").mix is not batch.mix
    assert Batch(batch.images, labels, labels).to("meta").mix is None


@pytest.mark.parametrize("world_size", [1, 2, 7])
def test_a_loader_has_the_counts_of_its_batches(shapes: Path, world_size: int) -> None:
    """240 samples in train, 60 in val; counted by iterating."""
    for split, training in (("train", True), ("val", False)):
        with _loader(
            shapes, split=split, training=training, batch_size=11, rank=0, world_size=world_size
        ) as loader:
            assert loader.batch_size == 11
            assert loader.global_batch_size == 11 * world_size
            assert loader.num_samples == {"train": 240, "val": 60}[split]
            assert loader.num_classes == len(loader.manifest.classes)
            assert loader.dataset == loader.manifest.dataset == "shapes"
            left = [loader.remaining_batches]
            count = 0
            for _ in loader:
                count += 1
                left.append(loader.remaining_batches)
            assert count == len(loader) == loader.remaining_batches
            assert left == [*range(count, 0, -1), count]
            images = count * 11 * world_size if training else 60
            assert loader.epoch_images == images


def test_the_repr_names_the_dataset_and_the_device(shapes: Path) -> None:
    with _loader(shapes) as loader:
        next(iter(loader))
        text = repr(loader)
    for part in ("shapes", "train", "240 samples", "12 batches of 20", "resident", "seen=20"):
        assert part in text, text
