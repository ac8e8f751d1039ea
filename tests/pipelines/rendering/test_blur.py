"""The Gaussian blur, against torchvision.transforms.v2: its pixels, its distribution, and the same
pixels on every executor that can, after a resume and on several ranks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms import v2

from slipform.pipelines.dataset import open_dataset
from slipform.pipelines.errors import ConfigError
from slipform.pipelines.executors import streaming
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.plan.blur import Blur
from slipform.pipelines.plan.plan import draw
from slipform.pipelines.plan.policy import Policy
from slipform.pipelines.rendering.launch import check
from tests.pipelines import folders
from tests.pipelines.epochs import assert_one_epoch_everywhere, open_loader, read_epoch
from tests.pipelines.rendering.painted import paint, spec_for

SIZE = 33


@pytest.mark.parametrize(("kernel_size", "sigma"), [(3, 0.1), (9, 1.3), (23, 2.0), (65, 40.0)])
@pytest.mark.parametrize("policy", ["none", "rand_augment", "augmix"])
def test_the_pixels_are_torchvisions(policy: str, kernel_size: int, sigma: float) -> None:
    """Of the picture that there is without a blur, on float32. After a policy, too."""
    images = [folders.noise(SIZE, SIZE, k) for k in range(4)]
    spec = spec_for(SIZE, policy=Policy(policy), blur=Blur(1.0, kernel_size, (sigma, sigma)))  # type: ignore[arg-type]
    sides = np.full(4, SIZE, np.int32)
    plan = draw(spec, np.arange(4), sides, sides, 0, 0)
    sharp, found = paint(spec, images, replace(plan, blur=None)), paint(spec, images, plan)
    want = v2.functional.gaussian_blur(sharp, [kernel_size] * 2, [sigma] * 2)
    assert (want - sharp).abs().max() > (0.1 if sigma > 1 else -1)
    torch.testing.assert_close(found, want, rtol=0, atol=1e-5)


def test_how_often_and_how_much() -> None:
    spec = Augmentation(image_size=8, blur=Blur(0.3, 3, (0.2, 1.7))).resolved([], [])
    sides, n = np.full(4000, 20, np.int32), 4000
    sigmas = draw(spec, np.arange(n), sides, sides, 3, 0).blur
    assert sigmas is not None
    assert stats.binomtest(int((sigmas > 0).sum()), n, 0.3).pvalue > 1e-6
    torch.manual_seed(0)
    theirs = v2.GaussianBlur(3, (0.2, 1.7))
    other = [theirs.make_params([])["sigma"][0] for _ in range(1000)]
    assert stats.ks_2samp(sigmas[sigmas > 0], other).pvalue > 1e-6


@pytest.mark.parametrize("size", [8, 32, 96, 224])
def test_the_filter_of_simclr_is_a_tenth_of_the_image(size: int) -> None:
    used = Blur(0.5).size_for(size)
    assert used % 2 == 1
    assert used == 3 or abs(used - size / 10) <= 1


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    images = [folders.noise(30 + k, 40 - k, k) for k in range(12)]
    return Path(folders.write_folder(tmp_path_factory.mktemp("raw"), images))


@pytest.mark.parametrize("policy", ["none", "rand_augment"])
def test_exact_on_executors_after_a_resume_and_on_ranks(raw: Path, policy: str) -> None:
    spec = Augmentation(image_size=24, blur=Blur(0.6), policy=Policy(policy))  # type: ignore[arg-type]
    want = assert_one_epoch_everywhere(raw, spec)
    with open_loader(raw, "host", 4, augment=replace(spec, blur=Blur())) as loader:
        sharp = read_epoch(loader)
    same = [np.array_equal(image, want[index][1]) for index, (_, image) in sharp.items()]
    assert 0 < sum(same) < 12  # those that are not blurred keep their pixels


def test_evaluation_is_sharp_and_who_cannot_says_who_can(raw: Path) -> None:
    beton = open_dataset(raw).beton("train")
    spec = Augmentation(blur=Blur(0.5))
    assert not spec.evaluation().blur
    for name in ("resident", "stream"):
        check(beton, spec, name)
    with pytest.raises(ConfigError, match=r'"dali" cannot do augment\.blur'):
        open_loader(raw, "dali", 4, augment=spec)
    assert streaming(beton, spec, "cuda") == ["stream", "host"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"probability": 1.5}, "blur.probability = 1.5: give 0 to 1"),
        ({"kernel_size": 4}, "blur.kernel_size = 4: give 0, 1, 3"),
        ({"sigma": (0.0, 1.0)}, "blur.sigma"),
        ({"sigma": (2.0, 1.0)}, "blur.sigma"),
        ({"sigma": 1.0}, "blur.sigma"),
    ],
)
def test_a_wrong_setting_is_named(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Blur(**options)


def test_a_filter_larger_than_the_image_is_refused() -> None:
    with pytest.raises(ConfigError, match="kernel_size below twice image_size"):
        Augmentation(image_size=8, blur=Blur(1.0, 17))
