"""Own augmentations through the Loader: the same pixels on `host` and `resident`, for any size of
batches, after a resume and over several ranks; none in evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from slipform.pipelines.errors import ConfigError
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.plan.blur import Blur
from slipform.pipelines.plan.policy import Policy
from tests.pipelines import folders, own
from tests.pipelines.epochs import assert_one_epoch_everywhere, open_loader, read_epoch

NAMES = [one.__name__ for one in (own.exchange, own.quarter, own.corner, own.turn)]
BOXES: dict[str, Any] = {name: {} for name in NAMES[:3]}
TURNED: dict[str, Any] = {NAMES[3]: {"degrees": 15.0, "probability": 0.7}}
SPECS = {
    "box": Augmentation(image_size=24, crop="random_resized", flip="both", own=BOXES),
    "turned": Augmentation(image_size=25, resize=30, crop="random", own=TURNED | BOXES),
    "policy": Augmentation(
        image_size=24, crop="random_resized", own=BOXES, policy=Policy("rand_augment")
    ),
    "policy, turned": Augmentation(
        image_size=24, resize=30, own=TURNED, policy=Policy("augmix"), blur=Blur(0.5), erase=0.5
    ),
}


@pytest.mark.parametrize("name", SPECS)
def test_one_epoch_everywhere(raw: Path, jpegs: Path, name: str) -> None:
    """To the bit: `host` and `resident`, batches of 1, 4 and 7, a resumed loader, two ranks."""
    for folder in (raw, jpegs):
        want = assert_one_epoch_everywhere(folder, SPECS[name])
        for batch_size in (1, 7):
            with open_loader(folder, "host", batch_size, augment=SPECS[name]) as loader:
                found = read_epoch(loader)
            assert len(found) == len(want) // batch_size * batch_size
            for index, (_, image) in found.items():
                if index in want:
                    np.testing.assert_array_equal(image, want[index][1])


@pytest.mark.parametrize("executor", ["host", "resident"])
def test_pixels_of_references(tmp_path: Path, executor: str) -> None:
    """Red and blue are exchanged exactly. A rotation by 15 degrees is torchvision's, which samples
    the whole image bilinearly, too, and by 90 degrees it is numpy's."""
    image = folders.smooth(32, 32)
    folder = folders.write_folder(tmp_path / "set", [image])

    def rendered(**table: Any) -> np.ndarray:
        spec = Augmentation(image_size=32, crop="none", own=table)
        with open_loader(folder, executor, 1, augment=spec) as loader:
            return next(iter(loader)).images[0].permute(1, 2, 0).numpy().copy()

    plain = image / 127.5 - 1
    exchanged = rendered(exchange={"probability": 1.0})
    np.testing.assert_allclose(exchanged, plain[..., ::-1], atol=1e-6)
    np.testing.assert_array_equal(rendered(exchange={"probability": 0.0}), rendered())
    np.testing.assert_allclose(rendered(turn={"degrees": 90.0}), np.rot90(plain), atol=1e-4)
    values = torch.from_numpy(image).permute(2, 0, 1).float()
    turned = functional.rotate(values, 15.0, v2.InterpolationMode.BILINEAR, fill=0.0)
    want = turned.permute(1, 2, 0).numpy() / 127.5 - 1
    # Where all four taps are inside; torchvision blends with the fill in another way at the edge.
    inside = functional.rotate(torch.ones(1, 32, 32), 15.0, v2.InterpolationMode.BILINEAR)[0] == 1
    assert inside.float().mean() > 0.7
    np.testing.assert_allclose(rendered(turn={"degrees": 15.0})[inside], want[inside], atol=1e-3)


@pytest.mark.parametrize("executor", ["host", "resident", "dali"])
def test_a_loader_asks_for_the_function_before_its_work(raw: Path, executor: str) -> None:
    spec = Augmentation(image_size=8, own={"missing": {}})
    with pytest.raises(ConfigError, match=r'augment\.own\.missing: no augmentation "missing"'):
        open_loader(raw, executor, 4, augment=spec)
    options = {"augment": spec, "training": False}
    with open_loader(raw, executor, **options) as loader:  # evaluation does not need it
        without = Augmentation(image_size=8)
        with open_loader(raw, executor, **options | {"augment": without}) as other:
            for one, two in zip(loader, other, strict=True):
                assert torch.equal(one.images, two.images)


def test_a_wrong_function_ends_the_loop_with_its_name(raw: Path) -> None:
    spec = Augmentation(image_size=8, own={NAMES[3]: {"degrees": float(15), "probability": "1"}})
    with open_loader(raw, "host", 4, augment=spec) as loader:  # "1" is a number for pydantic
        next(iter(loader))
    spec = Augmentation(image_size=8, own={"corner": {"share": 2.0}})
    with (
        open_loader(raw, "host", 4, augment=spec) as loader,
        pytest.raises(ConfigError, match=r"augment\.own\.corner returned erase boxes"),
    ):
        for _ in loader:
            pass
