"""Batches of every executor: exact crops, pixels of torchvision, rounding, lifetime of buffers."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from slipform.pipelines.beton import Beton
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.plan.color_jitter import ColorJitter
from slipform.pipelines.plan.plan import draw
from slipform.pipelines.rendering.pool import RenderPool
from tests.pipelines.epochs import ON_CPU as NAMES
from tests.pipelines.epochs import open_loader

LEVEL = 255 / 2  # normalized with "half", this many levels make one unit
JITTER = ColorJitter(0.3, 0.3, 0.3, 0.1)


@pytest.mark.parametrize("executor", NAMES)
@pytest.mark.parametrize("border", ["zero", "reflect", "edge"])
def test_raw_crops_and_flips_are_exact(shapes_raw: Path, executor: str, border: str) -> None:
    """CIFAR's augmentation, compared exactly as integers."""
    spec = Augmentation(
        image_size=32, resize=0, crop="random", padding=4, flip="horizontal", border=border
    )  # type: ignore[arg-type]
    mode = {"zero": "constant", "reflect": "reflect", "edge": "edge"}[border]
    with open_loader(shapes_raw, executor, 60, augment=spec, seed=1) as loader:
        for batch in loader:
            indices = batch.indices.numpy()
            plan = draw(
                loader.augment, indices, np.full(60, 32, np.int32), np.full(60, 32, np.int32), 1, 0
            )
            got = (
                torch.round((batch.images + 1) * LEVEL).to(torch.int64).permute(0, 2, 3, 1).numpy()
            )
            for i, index in enumerate(indices):
                padded = np.pad(loader._beton.raw(index), ((4, 4), (4, 4), (0, 0)), mode=mode)  # type: ignore[call-overload]
                g, mirrored = plan.geometry[i], plan.geometry[i, 0, 0] < 0
                x, y = int(g[0, 2]) - 32 * bool(mirrored) + 4, int(g[1, 2]) + 4
                want = padded[y : y + 32, x : x + 32]
                np.testing.assert_array_equal(got[i], want[:, ::-1] if mirrored else want)


@pytest.mark.parametrize("executor", NAMES)
def test_torchvisions_resize_and_center_crop(raw: Path, executor: str) -> None:
    transform = v2.Compose(
        [v2.ToDtype(torch.float32), v2.Resize(46, antialias=True), v2.CenterCrop(40)]
    )
    with open_loader(
        raw, executor, 6, augment=Augmentation(image_size=40, resize=46), seed=1, training=False
    ) as loader:
        for batch in loader:
            for index, image in zip(batch.indices, batch.images, strict=True):
                stored = loader._beton.raw(int(index))
                want = transform(torch.from_numpy(stored.copy()).permute(2, 0, 1)) / LEVEL - 1
                assert (image - want).abs().max() * LEVEL < 0.25, stored.shape


@pytest.mark.parametrize("executor", NAMES)
def test_torchvisions_resized_crop(raw: Path, executor: str) -> None:
    spec = Augmentation(image_size=29, crop="random_resized", flip="horizontal")
    with open_loader(raw, executor, 6, augment=spec, seed=1) as loader:
        for batch in loader:
            for index, image in zip(batch.indices.numpy(), batch.images, strict=True):
                stored = loader._beton.raw(index)
                height, width = (np.array([side], np.int32) for side in stored.shape[:2])
                plan = draw(loader.augment, np.array([index]), height, width, 1, 0)
                x0, y0, x1, y1 = (int(v) for v in plan.clip[0])
                pixels = torch.from_numpy(stored.copy()).permute(2, 0, 1).float()
                want = (
                    F.resized_crop(pixels, y0, x0, y1 - y0, x1 - x0, [29, 29], antialias=True)
                    / LEVEL
                    - 1
                )
                want = want.flip(2) if plan.geometry[0, 0, 0] < 0 else want
                assert (image - want).abs().max() * LEVEL < 0.25, (stored.shape, plan.clip)


@pytest.mark.parametrize("executor", NAMES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_short_floats_are_rounded_float32(shapes: Path, executor: str, dtype: torch.dtype) -> None:
    spec = Augmentation(image_size=31, crop="random_resized", color_jitter=JITTER, erase=0.5)
    with (
        open_loader(shapes, executor, 24, augment=spec, seed=1) as long,
        open_loader(shapes, executor, 24, augment=spec, seed=1, dtype=dtype) as short,
    ):
        for a, b in zip(long, short, strict=True):
            assert b.images.dtype == dtype
            assert torch.equal(b.images, a.images.to(dtype))


@pytest.mark.parametrize("executor", NAMES)
def test_a_batch_has_the_stated_shape_and_dtype(shapes: Path, executor: str) -> None:
    with open_loader(shapes, executor, 16, augment=Augmentation(image_size=24), seed=1) as loader:
        assert loader.executor_name == executor
        batch = next(iter(loader))
        assert batch.images.shape == (16, 3, 24, 24)
        assert batch.images.dtype == torch.float32
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        assert (batch.labels.dtype, batch.indices.dtype) == (torch.int64, torch.int64)
        np.testing.assert_array_equal(batch.labels, loader._beton.labels[batch.indices])
        assert len(batch) == 16
        assert batch.mix is None


@pytest.mark.parametrize("executor", NAMES)
def test_a_batch_is_valid_until_the_next_is_requested(shapes_raw: Path, executor: str) -> None:
    """Even if the consumer is slow: batches made ahead use other buffers. The buffers of DALI
    belong to the consumer."""
    first: tuple[torch.Tensor, torch.Tensor] | None = None
    with open_loader(
        shapes_raw,
        executor,
        32,
        augment=Augmentation(image_size=96, resize=0, border="edge"),
        seed=1,
    ) as loader:
        for batch in [b for _ in range(2) for b in loader] if executor == "dali" else loader:
            copy = batch.images.clone()
            first = first or (batch.images, copy)
            time.sleep(0.05)
            assert torch.equal(batch.images, copy)
    if executor == "dali":
        assert first is not None
        assert torch.equal(*first)


@pytest.mark.parametrize("executor", NAMES)
def test_the_last_batch_outlives_its_loader(shapes_raw: Path, executor: str) -> None:
    loader = open_loader(
        shapes_raw,
        executor,
        32,
        augment=Augmentation(image_size=96, resize=0, border="edge"),
        seed=1,
    )
    images = next(iter(loader)).images
    copy = images.clone()
    time.sleep(0.2)  # the next batches are made, or wait for a buffer
    loader.close()
    assert torch.equal(images, copy)


@pytest.mark.parametrize("batch_size", [8, 80])
def test_later_epochs_of_raw_pixels(
    shapes_raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_size: int
) -> None:
    """`host` compares checksums in the threads that render. Once all samples of a batch were read,
    it renders the batch as `resident` does, except for one with a bad sample, which stays unread.
    """
    folder = Path(shutil.copytree(shapes_raw, tmp_path / "set"))
    reads: list[None] = []
    begin_reading = RenderPool.begin_reading

    def noted(*arguments: Any) -> None:
        reads.append(None)
        begin_reading(*arguments)

    monkeypatch.setattr(RenderPool, "begin_reading", noted)
    with open(folder / "train.beton", "r+b") as beton:
        beton.seek(int(Beton(folder / "train.beton").offsets[17]) + 100)
        beton.write(bytes(20))
    loaders = [
        open_loader(folder, executor, batch_size, on_bad="skip", prefetch=1)
        for executor in ("host", "resident")
    ]
    with loaders[0] as host, loaders[1] as resident:
        for _ in range(3):
            for one, other in zip(host, resident, strict=True):
                assert torch.equal(one.indices, other.indices)
                assert torch.equal(one.labels, other.labels)
                assert torch.equal(one.images, other.images)
        assert host.num_bad == resident.num_bad == 3
        # All of the first epoch, one of each other epoch, and those begun before others were read.
        most = len(host) + 3 + 2 * host.sequence.ahead.executor.depth
        assert len(host) + 2 <= len(reads) <= most
