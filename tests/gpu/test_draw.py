"""The kernel that draws Plans on a GPU, in Triton's interpreter, compared with the kernel for CPU
cores. The bits are equal if no library function is used, and otherwise equal up to the last
place."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.warm import Warm

COUNT = 512  # samples of a batch; each case has two
# These use only sums, products, quotients and square roots: the same bits on every machine.
EXACT: dict[str, dict[str, object]] = {
    "cifar": {"image_size": 32, "resize": 32, "crop": "random", "padding": 2,
              "border": "reflect", "flip": "alternating"},
    "stored": {"image_size": 97, "resize": 0, "crop": "random", "padding": 30, "flip": "both"},
    "center": {"image_size": 224, "resize": 256},
    "center_small": {"image_size": 61, "resize": 30, "grayscale": 0.5},
    "squeezed": {"image_size": 33, "crop": "none", "flip": "vertical", "flip_probability": 0.3},
    "colors": {"image_size": 64, "jitter": [0.4, 1.5, 0.8], "grayscale": 0.3},
    "moved": {"image_size": 65, "translate": [0.3, 0.2], "zoom": [0.5, 1.7], "flip": "both"},
    "bent": {"image_size": 51, "perspective": 0.7, "corners": "black", "crop": "random"},
}  # fmt: skip
# These also use exp, sin, cos and tan, whose last bit may depend on the library.
ROUNDED: dict[str, dict[str, object]] = {
    "boxes": {"image_size": 224, "crop": "random_resized", "flip": "horizontal"},
    "narrow": {"image_size": 40, "crop": "random_resized", "scale": [0.9, 1.0],
               "ratio": [1.2, 1.3]},
    "erased": {"image_size": 37, "erase": 0.6, "crop": "random_resized", "scale": [0.2, 0.3]},
    "hue": {"image_size": 64, "jitter": [0.4, 0.4, 0.4, 0.4], "grayscale": 0.2},
    "turned": {"image_size": 50, "rotation": 180.0, "flip": "both", "corners": "black"},
    "everything": {"image_size": 96, "crop": "random_resized", "rotation": 40.0, "shear": 20.0,
                   "perspective": 0.5, "translate": [0.2, 0.1], "zoom": [0.3, 1.5],
                   "flip": "alternating", "jitter": [0.4, 0.4, 0.4, 0.1], "erase": 0.5},
}  # fmt: skip
CASES = {**EXACT, **ROUNDED}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, interpreter: Warm) -> Path:
    out = tmp_path_factory.mktemp("drawn")
    script = Path(__file__).with_name("drawn.py")
    done = interpreter.run_file(script, out, COUNT, json.dumps(CASES))
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.parametrize("case", CASES)
def test_plans_drawn_on_the_device_equal_those_of_the_host(results: Path, case: str) -> None:
    found = np.load(results / f"{case}.npz")
    for name in ("indices", "labels", "ints"):
        np.testing.assert_array_equal(found[f"device_{name}"], found[f"host_{name}"], name)
    want, got = found["host_floats"], found["device_floats"]
    assert want.shape == (2 * COUNT, 21)
    different = got != want
    if case in EXACT:
        assert not different.any()
    # One in 2**28 numbers may differ in its last place, and a sum with cancellation by 2**-40.
    assert different.sum() <= 4
    last_place = np.maximum(np.spacing(np.abs(want)), 2.0**-40)
    assert (np.abs(got - want) <= last_place).all()


def test_the_cases_are_not_trivial(results: Path) -> None:
    """Each case reaches its branch: boxes after ten failed attempts, erased boxes, warps, and so
    on."""
    ints = {case: np.load(results / f"{case}.npz")["host_ints"] for case in CASES}
    floats = {case: np.load(results / f"{case}.npz")["host_floats"] for case in CASES}
    assert 0.3 < (ints["erased"][:, 6] > 0).mean() < 0.9
    assert 0.3 < (floats["bent"][:, 6] != 0).mean() < 0.7
    assert (ints["turned"][:, 8:] > 1).any()
    aspect = (ints["narrow"][:, 2] - ints["narrow"][:, 0]) / (
        ints["narrow"][:, 3] - ints["narrow"][:, 1]
    )
    assert ((aspect < 1.15) | (aspect > 1.35)).any()  # a small box after ten failed attempts
    assert len(np.unique(floats["hue"][:, 9])) > COUNT


def test_batches_made_on_the_device_equal_those_of_the_loader(
    tmp_path: Path, interpreter: Warm
) -> None:
    """Across the ends of epochs, with MixUp and CutMix, from the middle of an epoch."""
    done = interpreter.run_file(Path(__file__).with_name("made_on_device.py"), tmp_path)
    assert done.returncode == 0, done.stderr
