"""The cubic filter, against torch's and Pillow's bicubic resize with antialiasing."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest
import torch
from torchvision.transforms.v2 import functional as F

from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.plan.plan import Plan, draw
from tests.pipelines import folders
from tests.pipelines.rendering.painted import PLAIN, paint, plan_for, spec_for, theirs

SIZES = [(40, 40), (97, 61), (33, 130), (16, 16), (7, 5), (1, 1), (2, 90)]


def _resized(image: np.ndarray, height: int, width: int) -> torch.Tensor:
    """By torch in float32, cut off to 0..255: [3, height, width]."""
    floats = torch.from_numpy(image).permute(2, 0, 1).float()
    options = {"antialias": True, "interpolation": F.InterpolationMode.BICUBIC}
    return F.resize(floats, [height, width], **options).clamp(0, 255)  # type: ignore[arg-type]


def _ours(spec: Augmentation, image: np.ndarray, plan: Plan | None = None) -> torch.Tensor:
    sides = np.array([image.shape[:2]], np.int32).T.copy()
    drawn = draw(spec, np.arange(1), sides[0], sides[1], 0, 0) if plan is None else plan
    return paint(spec, [image], drawn)[0] * 255


def _spec(size: int, **options: object) -> Augmentation:
    plain: dict[str, object] = {"image_size": size, "crop": "none", "normalize": PLAIN}
    return Augmentation(**plain | {"interpolation": "bicubic"} | options)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [1, 16, 37])
@pytest.mark.parametrize("sides", SIZES, ids=str)
def test_a_resize_is_torchs(sides: tuple[int, int], size: int) -> None:
    """On noise, whose values exceed 0..255 after the filter: in float32 up to rounding."""
    image = folders.noise(*sides, 1)
    off = (_ours(_spec(size), image) - _resized(image, size, size)).abs()
    assert off.max() < 0.02


@pytest.mark.parametrize("sides", [(97, 61), (40, 40), (20, 33)], ids=str)
def test_a_resize_is_pillows(sides: tuple[int, int]) -> None:
    """Pillow rounds and cuts off between the axes: a level and a half on smooth images."""
    image = folders.smooth(*sides, 3)
    want = np.array(PIL.Image.fromarray(image).resize((37, 37), PIL.Image.Resampling.BICUBIC))
    off = np.abs(_ours(_spec(37), image).permute(1, 2, 0).numpy() - want)
    assert off.max() < 1.5
    assert off.mean() < 0.4


def test_resize_and_crop_are_torchs() -> None:
    image = folders.noise(50, 75, 1)
    spec = _spec(48, crop="center", resize=60)
    want = F.center_crop(_resized(image, 60, 90), [48, 48])
    assert (_ours(spec, image) - want).abs().max() < 0.02


def test_a_shift_by_whole_pixels_stays_one() -> None:
    image = folders.noise(40, 40, 1)
    one = _ours(_spec(32, crop="center", resize=0), image)
    np.testing.assert_allclose(one.permute(1, 2, 0).numpy(), image[4:36, 4:36], atol=1e-3)


@pytest.mark.parametrize("sides", [(150, 120), (20, 31)], ids=str)
@pytest.mark.parametrize("name", ["Rotate", "ShearX", "TranslateX"])
def test_a_policy_moves_the_resized_image(sides: tuple[int, int], name: str) -> None:
    """Resized first, also where that enlarges, and then moved bilinearly, as by torchvision, which
    rounds to whole levels between the two."""
    image, operations = folders.smooth(*sides, 1), [(name, 9.0 if name != "ShearX" else 0.2)]
    small = _resized(image, 48, 48).round().to(torch.uint8).permute(1, 2, 0)
    want = theirs(np.ascontiguousarray(small.numpy()), operations)  # type: ignore[arg-type]
    spec = spec_for(48, interpolation="bicubic")
    found = _ours(spec, image, plan_for(spec, [image], operations))  # type: ignore[arg-type]
    off = np.abs(found.permute(1, 2, 0).numpy() - want)
    inside = off[(want > 0).any(2)]
    assert np.median(inside) < 0.6
    assert off.mean() < 1.0
