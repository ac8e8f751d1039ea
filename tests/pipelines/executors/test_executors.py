"""Every executor compared with the float64 reference and the other executors, through the
Loader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from slipform.pipelines.loader import Loader
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.plan.color_jitter import ColorJitter
from slipform.pipelines.plan.plan import Plan, draw
from tests.pipelines import own, reference
from tests.pipelines.epochs import ON_CPU as NAMES
from tests.pipelines.epochs import open_loader

LEVEL = 255 / 2  # normalized with "half", this many levels make one unit
JITTER = ColorJitter(0.3, 0.3, 0.3, 0.1)
OWN = [one.__name__ for one in (own.exchange, own.quarter, own.corner, own.turn)]
SPECS: dict[str, dict[str, Any]] = {
    "center": {"image_size": 40, "resize": 46},
    "center, beyond the image": {"image_size": 60, "resize": 40, "border": "edge"},
    "enlarged": {"image_size": 112, "resize": 128},
    "much reduced": {"image_size": 7, "resize": 9},
    "squeezed": {"image_size": 33, "crop": "none"},
    "random, padded": {
        "image_size": 32,
        "resize": 0,
        "crop": "random",
        "padding": 6,
        "flip": "both",
    },
    "random, padded, reflect": {
        "image_size": 32,
        "resize": 40,
        "crop": "random",
        "padding": 9,
        "border": "reflect",
    },
    "random, padded, edge": {
        "image_size": 32,
        "resize": 36,
        "crop": "random",
        "padding": 9,
        "border": "edge",
        "flip": "both",
    },
    "random, mostly padding": {"image_size": 16, "resize": 20, "crop": "random", "padding": 15},
    "random-resized": {
        "image_size": 32,
        "crop": "random_resized",
        "flip": "both",
        "color_jitter": JITTER,
        "grayscale": 0.3,
    },
    "alternating, erased": {
        "image_size": 24,
        "resize": 24,
        "flip": "alternating",
        "erase": 0.7,
        "normalize": "imagenet",
    },
    "rotated": {
        "image_size": 32,
        "resize": 36,
        "rotation": 30,
        "zoom": (0.7, 1.5),
        "shear": 15,
        "translate": (0.1, 0.2),
    },
    "rotated, edge": {
        "image_size": 32,
        "crop": "none",
        "rotation": 40,
        "border": "edge",
        "color_jitter": JITTER,
    },
    "rotated, reflect": {"image_size": 32, "crop": "none", "rotation": 40, "border": "reflect"},
    "rotated, black corners": {
        "image_size": 24,
        "resize": 36,
        "rotation": 90,
        "perspective": 0.3,
        "corners": "black",
    },
    "perspective": {
        "image_size": 32,
        "resize": 32,
        "crop": "random",
        "perspective": 0.5,
        "flip": "horizontal",
        "erase": 0.3,
    },
    "own, box": {
        "image_size": 32,
        "crop": "random_resized",
        "flip": "both",
        "own": {name: {} for name in OWN[:3]},
    },
    "own, turned": {
        "image_size": 24,
        "resize": 36,
        "own": {OWN[3]: {"degrees": 15}, OWN[0]: {"probability": 1}},
    },
    "own, turned, edge": {
        "image_size": 32,
        "crop": "random",
        "resize": 40,
        "border": "edge",
        "erase": 0.3,
        "own": {OWN[3]: {"degrees": -75.0, "probability": 0.5}, OWN[2]: {}},
    },
}

# Raw pixels are moved in the same way. The executors are compared on JPEGs, too.
MOVED = (
    *("rotated, edge", "rotated, black corners", "perspective"),
    *("own, turned", "own, turned, edge"),
)


def _stored(folder: Path, loader: Loader) -> list[np.ndarray]:
    """Every image as Pillow decodes it."""
    from io import BytesIO

    from PIL import Image

    beton = loader._beton
    return [
        (
            beton.raw(i)
            if beton.modes[i]
            else np.asarray(Image.open(BytesIO(beton.bytes_of(i).tobytes())).convert("RGB"))
        )
        for i in range(len(beton))
    ]


def _cannot(executor: str, spec: Augmentation) -> bool:
    return executor == "dali" and not spec.fits_dali


_REFERENCES: dict[tuple[object, ...], tuple[np.ndarray, np.ndarray]] = {}


def _reference(image: np.ndarray, plan: Plan, i: int) -> tuple[np.ndarray, np.ndarray]:
    """`reference.picture`, which is slow, once for all executors that make the same sample."""
    parts = (image, plan.geometry[i], plan.clip[i], plan.color[i])
    erased = () if plan.erase is None else tuple(plan.erase[i])
    key = (
        image.shape,
        *(part.tobytes() for part in parts),
        erased,
        plan.image_size,
        plan.border,
        plan.axis_aligned,
    )
    if key not in _REFERENCES:
        _REFERENCES[key] = reference.picture(image, plan, i)
    return _REFERENCES[key]


def _check(
    folder: Path,
    executor: str,
    spec: Augmentation,
    worst: float,
    mean: float,
) -> None:
    """Compare two epochs of batches with the reference. The limits of the largest and the mean
    difference are in levels of 255."""
    with open_loader(folder, executor, 5, augment=spec, seed=1) as loader:
        images = _stored(folder, loader)
        heights, widths = (
            np.array([image.shape[axis] for image in images], np.int32) for axis in (0, 1)
        )
        for epoch in range(2):
            for batch in loader:
                indices = batch.indices.numpy()
                plan = draw(loader.augment, indices, heights[indices], widths[indices], 1, epoch)
                got = batch.images.permute(0, 2, 3, 1).numpy()
                for i, index in enumerate(indices):
                    want, known = _reference(images[index], plan, i)
                    gain = np.abs(plan.color[i, :, :3]).sum(1).max()
                    off = np.abs(got[i] - want)[known] / max(gain, 1 / LEVEL)
                    assert off.max(initial=0) <= worst, (
                        index,
                        images[index].shape,
                        plan.geometry[i],
                        plan.clip[i],
                    )
                    assert off.size == 0 or off.mean() <= mean


@pytest.mark.parametrize("executor", NAMES)
@pytest.mark.parametrize("name", SPECS)
def test_raw_pixels_equal_the_reference(raw: Path, executor: str, name: str) -> None:
    """On noise, where a shift by a quarter of a pixel is 50 levels."""
    spec = Augmentation(**SPECS[name])
    if not _cannot(executor, spec):
        _check(raw, executor, spec, worst=0.25 if spec.axis_aligned else 1.0, mean=0.05)


@pytest.mark.parametrize("executor", NAMES)
@pytest.mark.parametrize(
    "name", [pytest.param(x, marks=pytest.mark.slow if x in MOVED else ()) for x in SPECS]
)
def test_jpegs_equal_the_reference(jpegs: Path, executor: str, name: str) -> None:
    """Pillow decodes for the reference, and DALI for the executors. Rounding in the inverse DCT
    causes up to two levels."""
    spec = Augmentation(**SPECS[name])
    if not _cannot(executor, spec):
        _check(jpegs, executor, spec, worst=4.0, mean=1.0)


@pytest.mark.parametrize("name", SPECS)
def test_the_executors_agree(shapes: Path, name: str) -> None:
    """On the fixture (different sizes, grayscale, subsampled chroma): at most 1 level on average,
    and 99.9 % within 4."""
    spec = Augmentation(**SPECS[name])
    batches = {}
    for executor in NAMES:
        if not _cannot(executor, spec):
            with open_loader(shapes, executor, 80, augment=spec, seed=1) as loader:
                batches[executor] = next(iter(loader))
    first = batches["host"]
    for other in batches.values():
        assert torch.equal(other.indices, first.indices)
        assert torch.equal(other.labels, first.labels)
        off = (other.images - first.images).abs() * LEVEL
        if spec.normalize == "imagenet":
            off *= 2 * 0.225
        assert off.mean() <= 1
        assert (off <= 4).float().mean() >= 0.999
