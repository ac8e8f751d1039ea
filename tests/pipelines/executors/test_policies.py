"""Policies through the Loader: the same pixels on every executor that can, exact after a resume and
on several ranks, and a clear refusal by those that cannot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from slipform.pipelines import executors
from slipform.pipelines.dataset import open_dataset
from slipform.pipelines.errors import ConfigError
from slipform.pipelines.executors import keeps, streaming
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.plan.color_jitter import ColorJitter
from slipform.pipelines.plan.policy import Policy
from slipform.pipelines.rendering.launch import check
from tests.pipelines.epochs import open_loader, read_epoch

NAMES = (
    "rand_augment",
    "trivial_augment_wide",
    "auto_augment_imagenet",
    "auto_augment_cifar10",
    "auto_augment_svhn",
    "augmix",
)
CROPS: dict[str, dict[str, Any]] = {
    "random-resized": {"image_size": 24, "crop": "random_resized", "flip": "both"},
    "moved": {"image_size": 32, "resize": 0, "crop": "random", "padding": 6, "erase": 0.5},
    "turned": {"image_size": 25, "resize": 30, "rotation": 20, "perspective": 0.4},
    "jittered": {"image_size": 19, "color_jitter": ColorJitter(0.3, 0.3, 0.3, 0.1)},
}


def _spec(name: str, crop: str = "random-resized", **options: Any) -> Augmentation:
    return Augmentation(**CROPS[crop] | {"policy": Policy(name, **options)})  # type: ignore[arg-type]


@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize("name", NAMES)
def test_host_and_resident_agree(raw: Path, jpegs: Path, name: str, crop: str) -> None:
    """To the bit, also for JPEGs, of which `host` decodes the crop alone. A position that is
    rounded in another way may change a level, which an operation enlarges."""
    for folder in (raw, jpegs):
        epochs = []
        for executor in ("resident", "host"):
            with open_loader(folder, executor, 5, augment=_spec(name, crop)) as loader:
                epochs.append(read_epoch(loader))
        assert list(epochs[0]) == list(epochs[1])
        for index, (_, image) in epochs[0].items():
            np.testing.assert_array_equal(epochs[1][index][1], image)


@pytest.mark.parametrize("crop", ["random-resized", "moved"])
def test_no_operation_changes_nothing(raw: Path, crop: str) -> None:
    """Where the crop is not fractional, and thus cut at whole pixels already."""
    plain = Augmentation(**CROPS[crop])
    epochs = []
    for spec in (plain, _spec("rand_augment", crop, num_ops=0)):
        with open_loader(raw, "resident", 5, augment=spec) as loader:
            epochs.append(read_epoch(loader))
    for index, (_, image) in epochs[0].items():
        np.testing.assert_array_equal(epochs[1][index][1], image)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["rand_augment", "augmix"])
def test_sixteen_bits(raw: Path, name: str, dtype: torch.dtype) -> None:
    batches = []
    for kind in (torch.float32, dtype):
        with open_loader(raw, "host", 5, augment=_spec(name), dtype=kind) as loader:
            batches.append(next(iter(loader)).images)
    torch.testing.assert_close(batches[1], batches[0].to(dtype), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["rand_augment", "augmix"])
def test_a_resumed_loader_goes_on_exactly(raw: Path, name: str) -> None:
    spec = _spec(name)
    with open_loader(raw, "host", 3, augment=spec) as loader:
        batches = [batch.images for _ in range(2) for batch in loader]
    with open_loader(raw, "resident", 3, augment=spec) as first:
        next(iter(first))
        state = first.state_dict()
    with open_loader(raw, "resident", 3, augment=spec) as second:
        second.load_state_dict(state)
        rest = [batch.images for _ in range(2) for batch in second]
    assert len(rest) == len(batches) - 1
    for got, want in zip(rest, batches[1:], strict=True):
        assert torch.equal(got, want)


def test_two_ranks_make_the_pixels_of_one(raw: Path) -> None:
    spec = _spec("rand_augment")
    with open_loader(raw, "host", 6, augment=spec) as loader:
        alone = read_epoch(loader)
    together: dict[int, Any] = {}
    for rank in range(2):
        with open_loader(raw, "host", 3, augment=spec, rank=rank, world_size=2) as loader:
            together |= read_epoch(loader)
    assert sorted(alone) == sorted(together)
    for index, (_, image) in alone.items():
        np.testing.assert_array_equal(together[index][1], image)


def test_evaluation_has_no_policy(raw: Path) -> None:
    assert not _spec("augmix").evaluation().policy


def test_who_cannot_says_who_can(raw: Path) -> None:
    beton = open_dataset(raw).beton("train")
    spec = _spec("rand_augment")
    with pytest.raises(
        ConfigError,
        match=r'"dali" cannot do augment.policy.name = .* or "resident", or "stream" on a GPU\.$',
    ):
        open_loader(raw, "dali", 5, augment=spec)
    for name in ("resident", "stream"):
        check(beton, spec, name)
        with pytest.raises(ConfigError, match=f'"{name}" on a GPU cannot .*executor = "host"'):
            check(beton, replace(spec, interpolation="bicubic"), name)
    assert streaming(beton, spec, "cpu") == ["host"]
    assert streaming(beton, spec, "cuda") == ["stream", "host"]


def test_auto_keeps_the_pixels(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beton = open_dataset(raw).beton("train")
    monkeypatch.setattr(executors, "free_memory_bytes", lambda device: 1 << 40)
    spec = _spec("rand_augment")
    assert keeps(beton, spec, "cpu")
    assert keeps(beton, spec, "cuda:0")
    assert not keeps(beton, replace(spec, interpolation="bicubic"), "cuda:0")
