"""Erased boxes with noise: the distribution of timm's RandomErasing, in its three modes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from slipform.pipelines.dataset import open_dataset
from slipform.pipelines.errors import ConfigError
from slipform.pipelines.executors import keeps, streaming
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.plan.plan import draw
from slipform.pipelines.plan.policy import Policy
from slipform.pipelines.rendering.launch import check
from tests.pipelines import folders
from tests.pipelines.epochs import assert_one_epoch_everywhere, open_loader
from tests.pipelines.rendering.painted import paint, plan_for, spec_for

SIZE, COUNT = 32, 60


def _erased(mode: str, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, np.ndarray]:
    """Black images with erased boxes, and the boxes."""
    spec = spec_for(SIZE, erase=1.0, erase_mode=mode, policy=Policy())
    images = [np.zeros((SIZE, SIZE, 3), np.uint8)] * COUNT
    plan = plan_for(spec, images, [])
    assert plan.erase is not None
    return paint(spec, images, plan, dtype), plan.erase


def _boxes(images: torch.Tensor, boxes: np.ndarray) -> list[torch.Tensor]:
    pairs = zip(images, boxes.tolist(), strict=True)
    return [image[:, y0:y1, x0:x1] for image, (x0, y0, x1, y1) in pairs]


@pytest.mark.parametrize("mode", ["rand", "pixel"])
def test_the_colors_are_those_of_timm(mode: str, needs: Callable[[str], None]) -> None:
    needs("timm")
    from timm.data.random_erasing import RandomErasing

    images, boxes = _erased(mode)
    ours = _boxes(images, boxes)
    assert all((box == box[:, :1, :1]).all() == (mode == "rand") for box in ours if box.numel() > 3)
    theirs = RandomErasing(1.0, mode=mode, device="cpu")(torch.zeros(400, 3, SIZE, SIZE))
    if mode == "rand":
        mine = np.concatenate([box[:, 0, 0].numpy() for box in ours])
        other = np.concatenate([np.unique(image[image != 0].numpy()) for image in theirs])
    else:
        mine = np.concatenate([box.flatten().numpy() for box in ours])
        other = theirs[theirs != 0].numpy()[:50_000]
    for drawn in (mine, other):
        assert stats.kstest(drawn, stats.norm.cdf).pvalue > 1e-6
    assert stats.ks_2samp(mine, other).pvalue > 1e-6
    outside = torch.ones_like(images, dtype=torch.bool)
    for box in _boxes(outside, boxes):
        box[:] = False
    assert (images[outside] == 0).all()


def test_pixels_and_channels_are_independent() -> None:
    images, boxes = _erased("pixel")
    pixels = np.concatenate([box.flatten(1).T.numpy() for box in _boxes(images, boxes)])
    limit = 6 / np.sqrt(len(pixels))
    assert np.abs(np.corrcoef(pixels.T) - np.eye(3)).max() < limit
    assert abs(np.corrcoef(pixels[:-1, 0], pixels[1:, 0])[0, 1]) < limit


def test_the_noise_depends_on_seed_epoch_and_sample() -> None:
    spec = Augmentation(image_size=SIZE, erase=1.0, erase_mode="pixel").resolved([], [])
    sides = np.full(50, 40, np.int32)
    keys = [
        draw(spec, np.arange(start, start + 50), sides, sides, seed, epoch).erase_keys
        for seed in (0, 1)
        for epoch in (0, 1)
        for start in (0, 50, 1 << 33)
    ]
    assert len(np.unique(np.concatenate(keys))) == 600  # type: ignore[arg-type]


def test_const_is_the_mean_color_and_boxes_do_not_depend_on_the_mode() -> None:
    images, boxes = _erased("const")
    assert (images == 0).all()
    for mode in ("rand", "pixel"):
        np.testing.assert_array_equal(_erased(mode)[1], boxes)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("mode", ["rand", "pixel"])
def test_sixteen_bits(mode: str, dtype: torch.dtype) -> None:
    images, _ = _erased(mode)
    assert torch.equal(_erased(mode, dtype)[0], images.to(dtype))


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    images = [folders.noise(30 + k, 40 - k, k) for k in range(12)]
    return Path(folders.write_folder(tmp_path_factory.mktemp("raw"), images))


@pytest.mark.parametrize("policy", ["none", "rand_augment"])
@pytest.mark.parametrize("mode", ["rand", "pixel"])
def test_exact_on_executors_after_a_resume_and_on_ranks(raw: Path, mode: str, policy: str) -> None:
    spec = Augmentation(
        image_size=24, erase=0.7, erase_mode=mode, policy=Policy(policy),  # type: ignore[arg-type]
    )  # fmt: skip
    assert_one_epoch_everywhere(raw, spec)


def test_who_cannot_says_who_can(raw: Path) -> None:
    beton = open_dataset(raw).beton("train")
    spec = Augmentation(erase=0.5, erase_mode="pixel")
    for name in ("resident", "stream"):
        with pytest.raises(ConfigError, match=f'"{name}" on a GPU cannot do augment.erase_mode'):
            check(beton, spec, name)
    with pytest.raises(ConfigError, match='"dali" cannot do augment'):
        open_loader(raw, "dali", 4, augment=spec)
    assert streaming(beton, spec, "cuda") == ["host"]
    assert not keeps(beton, spec, "cuda")
    assert "dali" in streaming(beton, Augmentation(erase_mode="pixel"), "cpu")  # nothing is erased


def test_a_wrong_mode_is_named() -> None:
    with pytest.raises(ConfigError, match='Did you mean "pixel"'):
        Augmentation(erase_mode="pixels")  # type: ignore[arg-type]
