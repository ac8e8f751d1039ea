"""Each operation of a policy, against torchvision.transforms.v2 on uint8: equal where it is a
table, at most one level away where float32 is rounded in another order."""

from __future__ import annotations

import numpy as np
import pytest

from tests.pipelines import folders
from tests.pipelines.rendering.painted import Operations, ours, paint, plan_for, spec_for, theirs

TABLES: list[Operations] = [
    [("Brightness", 0.27)],
    [("Brightness", -0.9)],
    [("Posterize", 4.0)],
    [("Posterize", 0.0)],
    [("Solarize", 0.7)],
    [("Solarize", 0.0)],
    [("Invert", 0.0)],
    [("AutoContrast", 0.0)],
    [("Equalize", 0.0)],
    [("Identity", 0.0)],
    [("Equalize", 0.0), ("Solarize", 0.5)],
    [("Posterize", 3.0), ("AutoContrast", 0.0), ("Equalize", 0.0)],
]
BLENDS: list[Operations] = [
    [(name, amount)]
    for name in ("Color", "Contrast", "Sharpness")
    for amount in (0.27, -0.27, 0.9, -0.99)
]


def _images(size: int) -> dict[str, np.ndarray]:
    smooth = folders.smooth(size, size, 3)
    return {
        "noise": folders.noise(size, size, 1),
        "smooth": smooth,
        "dull": (smooth // 3 + 60).astype(np.uint8),
        "gray": np.repeat(smooth[..., :1], 3, axis=2),
        "one level": np.full((size, size, 3), 77, np.uint8),
    }


@pytest.mark.parametrize("size", [1, 2, 3, 33, 64])
@pytest.mark.parametrize("operations", TABLES, ids=str)
def test_tables_are_torchvisions(operations: Operations, size: int) -> None:
    for name, image in _images(size).items():
        off = np.abs(ours(image, size, operations) - theirs(image, operations))
        assert off.max() < 1e-3, name


@pytest.mark.parametrize("size", [1, 2, 3, 33, 64])
@pytest.mark.parametrize("operations", BLENDS, ids=str)
def test_blends_are_at_most_one_level_away(operations: Operations, size: int) -> None:
    """torchvision fuses products and sums: one level where the result is a whole number."""
    for name, image in _images(size).items():
        off = np.abs(ours(image, size, operations) - theirs(image, operations))
        assert off.max() < 1.001, name
        if name in ("noise", "smooth") and size > 30:
            assert off.mean() < 0.02, name


@pytest.mark.parametrize(
    "operations",
    [
        [("ShearX", 0.3)],
        [("ShearX", -0.99)],
        [("ShearY", 0.21)],
        [("ShearY", -0.3)],
        [("TranslateX", 14.7)],
        [("TranslateX", -14.7)],
        [("TranslateY", 9.0)],
        [("TranslateY", -64.0)],
        [("Rotate", 27.0)],
        [("Rotate", -135.0)],
    ],
    ids=str,
)
@pytest.mark.parametrize("size", [33, 64])
def test_geometry_is_torchvisions(operations: Operations, size: int) -> None:
    """On noise, where a tenth of a pixel would be 10 levels. torchvision rounds to whole levels."""
    image = folders.noise(size, size, 1)
    off = np.abs(ours(image, size, operations) - theirs(image, operations))
    assert off.max() < 0.6


@pytest.mark.parametrize(
    "operations", [[("Rotate", 20.0)], [("ShearY", 0.2)], [("TranslateX", 9.0)]]
)
def test_a_reduced_crop(operations: Operations) -> None:
    """Resized by torchvision first, which rounds to whole levels once more."""
    import torch
    from torchvision.transforms.v2 import functional as F

    image = folders.noise(150, 120, 1)
    small = F.resize(torch.from_numpy(image).permute(2, 0, 1), [48, 48], antialias=True)
    want = theirs(np.ascontiguousarray(small.permute(1, 2, 0).numpy()), operations)
    off = np.abs(ours(image, 48, operations) - want)
    assert off.max() < 1.7
    assert off.mean() < 0.4


TWO: dict[str, tuple[Operations, float]] = {
    "positions, then pixels": ([("Rotate", 9.0), ("Posterize", 7.0)], 0.01),
    "positions, then statistics": ([("Rotate", 9.0), ("Equalize", 0.0)], 0.01),
    "pixels, then positions": ([("Invert", 0.0), ("ShearX", 0.1)], 1.0),
    "invert, then moved": ([("Invert", 0.0), ("TranslateX", 6.0)], 0.01),
    "statistics, then positions": ([("AutoContrast", 0.0), ("TranslateX", 6.0)], 0.01),
    "equalize, then positions": ([("Equalize", 0.0), ("Rotate", 9.0)], 4.0),
    "contrast, then positions": ([("Contrast", 0.8), ("Rotate", 9.0)], 1.5),
    "color, then positions": ([("Color", 0.8), ("Rotate", 9.0)], 1.0),
    "sharpness, then positions": ([("Sharpness", 0.8), ("Rotate", 9.0)], 0.3),
    # In the other order 12 levels.
    "moved by whole pixels, then sheared": ([("TranslateY", 20.0), ("ShearX", 0.3)], 0.2),
    # Sampled once here, twice by torchvision.
    "positions twice": ([("Rotate", 9.0), ("ShearX", 0.1)], 3.0),
}


@pytest.mark.parametrize("case", TWO)
def test_the_distance_where_all_positions_come_first(case: str) -> None:
    """The mean over the image, in levels."""
    operations, mean = TWO[case]
    image = _images(64)["dull"]
    off = np.abs(ours(image, 64, operations) - theirs(image, operations))
    assert off.mean() <= mean


@pytest.mark.parametrize("stored", [7, 20, 33])
@pytest.mark.parametrize("crop", ["center", "random"])
def test_the_edge_of_a_crop_between_stored_pixels_is_not_black(crop: str, stored: int) -> None:
    """The crop is enlarged, so an output pixel is a part of a stored one."""
    images = [np.full((stored, stored, 3), 200, np.uint8)] * 40
    for resize, size in ((64, 56), (50, 50), (71, 45)):
        spec = spec_for(size, crop=crop, resize=resize)
        out = paint(spec, images, plan_for(spec, images, [])) * 255
        np.testing.assert_allclose(out, 200, atol=1e-3)
