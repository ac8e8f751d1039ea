"""The GPU kernels in Triton's interpreter, compared with the kernels for CPU cores: the same pixels
for the same Plan, for all kinds of augmentations, borders, odd sizes, dtypes, policies and blurs.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.warm import Warm

pytestmark = pytest.mark.timeout(3000)  # all cases take 5 minutes of a free core

BORDERS = ("zero", "reflect", "edge")
BOX = {"image_size": 17, "crop": "random_resized", "flip": "both", "jitter": [0.4, 0.4, 0.4, 0.1]}
WARP = {"image_size": 19, "resize": 24, "rotation": 40.0, "perspective": 0.4, "zoom": [0.5, 1.5]}
SPECS: dict[str, dict[str, object]] = {
    "box": {**BOX, "grayscale": 0.5},
    "small_box": {"image_size": 31, "crop": "random_resized", "scale": [0.05, 0.2], "erase": 0.9},
    "reduced": {"image_size": 5, "resize": 7},
    "squeezed": {"image_size": 33, "crop": "none"},
    "one_pixel": {"image_size": 1, "resize": 2},
    **{
        f"{name}_{border}": {**options, "border": border}
        for border in BORDERS
        for name, options in {
            # crops of the stored size, moved by whole pixels
            "moved": {
                "image_size": 32,
                "resize": 0,
                "crop": "random",
                "padding": 6,
                "flip": "both",
            },
            "padded": {
                "image_size": 32,
                "resize": 40,
                "crop": "random",
                "padding": 9,
                "erase": 0.5,
            },
            "beyond": {"image_size": 30, "resize": 20},
            "warp": {**WARP, "shear": 10.0, "flip": "both"},
            "far_warp": {
                "image_size": 18,
                "crop": "none",
                "rotation": 90.0,
                "translate": [0.3, 0.3],
            },
        }.items()
    },
}
CROP = {"image_size": 17, "crop": "random_resized", "flip": "both", "erase": 0.4}
PADDED = {"image_size": 32, "resize": 0, "crop": "random", "padding": 6}
TURNED = {"image_size": 19, "resize": 24, "rotation": 20.0, "perspective": 0.4, "flip": "both"}
# A policy moves the picture by its own map, and changes whole levels.
POLICIES: dict[str, dict[str, object]] = {
    "rand_augment": {**CROP, "policy": {"name": "rand_augment"}},
    "rand_augment_nothing": {**CROP, "policy": {"name": "rand_augment", "num_ops": 0}},
    "rand_augment_three": {**PADDED, "policy": {"name": "rand_augment", "num_ops": 3}},
    "trivial_augment_wide": {**TURNED, "policy": {"name": "trivial_augment_wide"}},
    "auto_augment_imagenet": {**CROP, "policy": {"name": "auto_augment_imagenet"}},
    "auto_augment_cifar10": {**PADDED, "policy": {"name": "auto_augment_cifar10"}},
    "auto_augment_svhn": {**TURNED, "policy": {"name": "auto_augment_svhn"}},
    "augmix": {**CROP, "policy": {"name": "augmix"}, "jitter": [0.3, 0.3, 0.3, 0.1]},
    "augmix_turned": {**TURNED, "policy": {"name": "augmix", "mixture_width": 2}},
    "rand_augment_blurred": {**CROP, "blur": [0.7], "policy": {"name": "rand_augment"}},
}
SPECS |= POLICIES
SPECS |= {
    "blur": {**CROP, "blur": [0.7, 5], "jitter": [0.4, 0.4, 0.4, 0.1]},
    "blur_reflect": {**TURNED, "blur": [0.7, 21, [2.0, 4.0]], "border": "reflect"},
}
# They may erase boxes without `erase`, and turn images without `rotation`.
SPECS |= {
    "own": {"image_size": 9, "crop": "random_resized", "own": {"corner": {}, "exchange": {}}},
    "own_turned": {
        "image_size": 15,
        "resize": 24,
        "blur": [0.7, 5],
        "own": {"turn": {"degrees": 20.0}, "corner": {}},
    },
}
HALF = ("box", "moved_zero", "padded_reflect", "warp_edge", "augmix", "blur")  # also in 16 bits
LAST_PLACE = {"float32": 0.0, "bfloat16": 2.0**-7, "float16": 2.0**-10}
CASES = {
    f"{name}-{dtype}": (options, dtype)
    for name, options in SPECS.items()
    for dtype in LAST_PLACE
    if dtype == "float32" or name in HALF
}
QUICK = (
    *("moved_zero-bfloat16", "warp_zero-float32", "rand_augment-float32"),
    *("blur-float32", "own-float32"),
)
# One epoch of these: buffers are used again in the others.
ONE_EPOCH = QUICK[1:]


@pytest.fixture(scope="module")
def results(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, interpreter: Warm
) -> Path:
    out = tmp_path_factory.mktemp("interpreted")
    selected = [getattr(item, "callspec", None) for item in request.session.items]
    names = [call.params["case"] for call in selected if call and "case" in call.params]
    cases = {
        name: (*case, 1 if name in ONE_EPOCH else 2)
        for name, case in CASES.items()
        if name in names
    }
    script = Path(__file__).with_name("interpreted.py")
    done = interpreter.run_file(script, out, json.dumps(cases))
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=() if c in QUICK else pytest.mark.slow) for c in CASES]
)
def test_the_gpu_kernel_gives_the_pixels_of_the_cpu_kernel(results: Path, case: str) -> None:
    options, dtype = CASES[case]
    found = np.load(results / f"{case}.npz")
    host, gpu = found["host"], found["gpu"]
    number = 9 if case in ONE_EPOCH else 18
    assert host.shape == (number, 3, options["image_size"], options["image_size"])
    assert np.ptp(host) > 50
    assert found["after_close"] == 0  # bytes of the GPU
    # Both round once. Values that differ by 0.005 levels before may be rounded to neighbors.
    alike = np.abs(gpu - host) <= 0.005 + LAST_PLACE[dtype] * np.abs(host)
    if case.split("-")[0] not in POLICIES:
        assert alike.all()
        return
    # A sampled value near a half may become the next level, which an operation then enlarges.
    assert alike.mean() >= 0.99
    assert np.abs(gpu - host).mean() <= 0.01 + LAST_PLACE[dtype] * np.abs(host).mean()
    same = alike.reshape(len(alike), -1).all(axis=1)
    assert same.mean() >= 0.5
