"""Preprocessing inside exported files, compared with the loader's renderer."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from slipform.pipelines.plan.augmentation import Augmentation
from slipform.train.inference.predict import read_batches, read_pixels
from slipform.train.inference.preprocessing import Preprocessing

NORMALIZE = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CALTECH = Path(__file__).parents[4] / "shared/data/caltech101/101_ObjectCategories"
SIZES = [(300, 200), (200, 301), (37, 41), (1, 1), (3, 900), (64, 64), (600, 801)]


def _rendered(pixels: np.ndarray, spec: Augmentation) -> torch.Tensor:
    (batch,) = read_batches([pixels], spec, torch.float32, torch.device("cpu"), {})
    assert batch.tensor is not None
    return batch.tensor.clone()


def _spec(
    size: int,
    resize: int,
    crop: str = "center",
    border: str = "zero",
    interpolation: str = "bilinear",
) -> Augmentation:
    given = Augmentation(
        image_size=size, resize=resize, crop=crop, border=border, normalize=NORMALIZE,
        interpolation=interpolation,  # type: ignore[arg-type]
    )  # fmt: skip
    return given.evaluation()


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    "size",
    [pytest.param(x, marks=pytest.mark.slow if x == SIZES[-1] else ()) for x in SIZES],
    ids=str,
)
def test_any_size_resize_crop_and_border(size: tuple[int, int], interpolation: str) -> None:
    """resize = 50 and 0 leave places outside of the image."""
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    numbers = [(64, 72), (64, 64), (64, 50), (64, 0), (97, 111)]
    for (side, resize), crop, border in itertools.product(
        numbers, ("center", "none"), ("zero", "edge", "reflect")
    ):
        spec = _spec(side, resize, crop, border, interpolation)
        found = Preprocessing(spec)(torch.from_numpy(pixels)[None])
        assert found.shape == (1, 3, side, side)
        # 1e-3 is a fourteenth of the smallest step of a pixel, 1 / 255 / 0.229.
        torch.testing.assert_close(found, _rendered(pixels, spec), rtol=0, atol=1e-3)


def test_images_of_a_batch_do_not_meet() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (3, 50, 70, 3), dtype=np.uint8)
    module = Preprocessing(_spec(32, 40))
    together = module(torch.from_numpy(pixels))
    for image, one in zip(pixels, together, strict=True):
        torch.testing.assert_close(module(torch.from_numpy(image)[None])[0], one)


@pytest.mark.skipif(not CALTECH.is_dir(), reason="needs shared/data/caltech101")
def test_real_photos() -> None:
    spec = _spec(224, 256)
    files = sorted(CALTECH.glob("*/image_0007.jpg"))[::10]
    assert len(files) > 5
    for file in files:
        pixels = read_pixels(file, {})
        found = Preprocessing(spec)(torch.from_numpy(pixels)[None])
        torch.testing.assert_close(found, _rendered(pixels, spec), rtol=0, atol=1e-3)
        # A reader of another library sees nearly the same image.
        again = np.asarray(PIL.Image.open(file).convert("RGB"))
        assert again.shape == pixels.shape
