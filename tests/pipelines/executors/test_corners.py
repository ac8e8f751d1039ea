"""corners = "black": the parts that a rotation moves in from outside the crop are black, as in
torchvision after a center crop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from slipform.pipelines.loader import Loader
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.plan.plan import draw
from tests.pipelines import folders

SIZE, CROP, COUNT = 64, 48, 8


def _spec(**options: object) -> Augmentation:
    return Augmentation(image_size=CROP, resize=0, rotation=180, **options)  # type: ignore[arg-type]


def _turned(
    path: Path, images: list[np.ndarray], spec: Augmentation
) -> tuple[torch.Tensor, list[float]]:
    """float [N, 3, CROP, CROP] in 0..255 by index, and the angles with torchvision's sign."""
    folder = folders.write_folder(path, images)
    with Loader(folder, "train", spec, batch_size=COUNT, executor="host", threads=1) as loader:
        batch = next(iter(loader))
        order = batch.indices.argsort()
        sizes = np.full(COUNT, SIZE, np.int32)
        plan = draw(loader.augment, np.arange(COUNT), sizes, sizes, 0, 0)
    angles = np.rad2deg(np.arctan2(-plan.geometry[:, 0, 1], plan.geometry[:, 0, 0]))
    return (batch.images[order].float() + 1) * 127.5, angles.tolist()


def test_black_corners_are_those_of_torchvision(tmp_path: Path) -> None:
    """In white images, the black pixels are those of torchvision's default NEAREST. In noise, the
    other pixels are those of its BILINEAR, except for the outermost pixels of the crop."""
    white = [np.full((SIZE, SIZE, 3), 255, np.uint8)] * COUNT
    noise = [folders.noise(SIZE, SIZE) for _ in range(COUNT)]
    spec = _spec(corners="black")
    masks, angles = _turned(tmp_path / "white", white, spec)
    turned, same_angles = _turned(tmp_path / "noise", noise, spec)
    assert angles == same_angles
    assert len({round(angle) for angle in angles}) > 1
    for mask, ours, image, angle in zip(masks, turned, noise, angles, strict=True):
        crop = F.center_crop(torch.from_numpy(image).permute(2, 0, 1).float(), [CROP, CROP])
        nearest = F.rotate(torch.ones_like(crop), angle)
        assert ((mask > 127) != (nearest > 0)).float().mean() < 0.002  # exactly on the edge
        bilinear = F.rotate(crop, angle, interpolation=v2.InterpolationMode.BILINEAR)
        inner = F.rotate(F.pad(torch.ones(3, CROP - 4, CROP - 4), [2, 2, 2, 2]), angle) > 0
        assert inner.float().mean() > 0.5
        assert (ours - bilinear)[inner].abs().max() < 0.5


def test_the_corners_hold_the_image_by_default(tmp_path: Path) -> None:
    white = [np.full((SIZE * 2, SIZE * 2, 3), 255, np.uint8)] * COUNT
    images, _ = _turned(tmp_path / "white", white, _spec())
    assert images.min() > 254


def test_evaluation_has_no_corners_and_its_own_resize() -> None:
    spec = Augmentation(image_size=32, resize=40, crop="random", evaluation_resize=32)
    assert spec.evaluation().resize == 32
    assert spec.evaluation().evaluation() == spec.evaluation()
    assert Augmentation(resize=40).evaluation().resize == 40
    with pytest.raises(Exception, match="corners"):
        Augmentation(corners="white")  # type: ignore[arg-type]
