"""The kernel that draws Plans on a GPU, in Triton's interpreter, compared with the kernel for CPU
cores. The bits are equal if no library function is used, and otherwise equal up to the last
place."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slipform.pipelines.plan import device, device_chains
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.plan.blur import Blur
from slipform.pipelines.plan.color_jitter import ColorJitter
from slipform.pipelines.plan.policy import Policy
from slipform.pipelines.plan.policy_space import space_of
from tests.warm import Warm

COUNT = 100  # samples of a batch: a part of a program; each case has two batches
MORE = 200  # one program, and a part of another
# These use only sums, products, quotients and square roots: the same bits on every machine. The
# policy of "tables" also rotates.
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
    "tables": {"image_size": 32, "resize": 32, "crop": "random", "padding": 4, "flip": "both",
               "policy": {"name": "auto_augment_svhn"}},
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
    "blurred": {"image_size": 64, "crop": "center", "blur": [0.6, 0, [0.3, 2.5]]},
    "erased_by_noise": {"image_size": 30, "erase": 0.6, "erase_mode": "pixel"},
    "rand_augment": {"image_size": 224, "crop": "random_resized",
                     "policy": {"name": "rand_augment", "num_ops": 3}},
    "wide": {"image_size": 40, "resize": 0, "rotation": 10.0, "perspective": 0.3,
             "policy": {"name": "trivial_augment_wide"}},
    "augmix": {"image_size": 33, "crop": "none", "policy": {"name": "augmix"}},
    "augmix_deep": {"image_size": 33, "resize": 20, "crop": "center",
                    "policy": {"name": "augmix", "alpha": 0.3, "chain_depth": 2,
                               "mixture_width": 2, "all_ops": False}},
    "augmix_rare": {"image_size": 33, "crop": "none",
                    "policy": {"name": "augmix", "alpha": 0.02, "mixture_width": 1}},
}  # fmt: skip
CASES = {**EXACT, **ROUNDED}
COUNTS = dict.fromkeys(CASES, COUNT) | {"cifar": MORE, "narrow": MORE}
# What the kernels do in the others is also done in these.
QUICK = ("cifar", "bent", "tables", "narrow", "everything", "blurred", "rand_augment",
         "augmix_deep")  # fmt: skip
CASES_OF_TESTS = [pytest.param(c, marks=() if c in QUICK else pytest.mark.slow) for c in CASES]


@pytest.fixture(scope="module")
def results(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, interpreter: Warm
) -> Path:
    out = tmp_path_factory.mktemp("drawn")
    selected = [getattr(item, "callspec", None) for item in request.session.items]
    names = [call.params["case"] for call in selected if call and "case" in call.params]
    cases = {case: (COUNTS[case], CASES[case]) for case in CASES if case in names}
    script = Path(__file__).with_name("drawn.py")
    done = interpreter.run_file(script, out, json.dumps(cases))
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.parametrize("case", CASES_OF_TESTS)
def test_plans_drawn_on_the_device_equal_those_of_the_host(results: Path, case: str) -> None:
    found = np.load(results / f"{case}.npz")
    for name in ("indices", "labels", "ints", "keys", "codes", "amounts", "moves", "sigmas"):
        if f"host_{name}" in found:
            np.testing.assert_array_equal(found[f"device_{name}"], found[f"host_{name}"], name)
    assert found["host_floats"].shape == (2 * COUNTS[case], 21)
    for name in ("floats", "geometry", "weights"):
        if f"host_{name}" not in found:
            continue
        want, got = found[f"host_{name}"], found[f"device_{name}"]
        assert got.shape == want.shape
        different = got != want
        if case in EXACT and name == "floats":
            assert not different.any()
        # One in 2**28 numbers may differ in its last place, and a sum with cancellation by 2**-40.
        assert different.sum() <= 4
        last_place = np.maximum(np.spacing(np.abs(want)), 2.0**-40)
        assert (np.abs(got - want) <= last_place).all()


# Policy -> its chains, and the number of its operations.
CHAINS = {
    "rand_augment": ((1, 3), 14),
    "wide": ((1, 1), 14),
    "tables": ((1, 2), 12),
    "augmix_deep": ((3, 2), 10),
}


@pytest.mark.parametrize("case", CASES_OF_TESTS)
def test_a_case_is_not_trivial(results: Path, case: str) -> None:
    """Each case reaches its branch: boxes after ten failed attempts, erased boxes, warps, and so
    on."""
    found = np.load(results / f"{case}.npz")
    ints, floats = found["host_ints"], found["host_floats"]
    if case in ("erased", "everything"):
        assert 0.3 < (ints[:, 6] > 0).mean() < 0.9
    if case == "bent":
        assert 0.3 < (floats[:, 6] != 0).mean() < 0.7
    if case in ("turned", "everything"):
        assert (ints[:, 8:] > 1).any()
    if case == "narrow":  # a small box after ten failed attempts
        aspect = (ints[:, 2] - ints[:, 0]) / (ints[:, 3] - ints[:, 1])
        assert ((aspect < 1.15) | (aspect > 1.35)).any()
    if case in ("hue", "everything"):
        assert len(np.unique(floats[:, 9])) > COUNT
    if case == "erased_by_noise":
        assert len(np.unique(found["host_keys"])) == 2 * COUNT
    if case in CHAINS:
        chains, codes = CHAINS[case]
        assert found["host_codes"].shape == (2 * COUNTS[case], *chains)
        assert found["host_geometry"].shape == (2 * COUNTS[case], chains[0], 3, 3)
        assert len(np.unique(found["host_codes"])) >= codes - 2
    if case == "augmix_deep":
        assert np.ptp(found["host_weights"]) > 0.9


# Another value of each setting that the drawing kernels read.
CHANGED: dict[str, Any] = {
    "image_size": 33, "resize": 40, "crop": "center", "padding": 3, "corners": "black",
    "scale": (0.3, 1.0), "ratio": (0.5, 2.0), "flip": "vertical", "flip_probability": 0.3,
    "rotation": 5.0, "perspective": 0.2, "perspective_probability": 0.2, "translate": (0.1, 0.2),
    "zoom": (0.9, 1.2), "shear": 3.0, "color_jitter": ColorJitter(hue=0.1), "grayscale": 0.2,
    "policy": Policy("augmix"), "normalize": ((0.1, 0.2, 0.3), (0.5, 0.5, 0.5)), "erase": 0.4,
    "erase_mode": "rand", "blur": Blur(0.4, sigma=(0.5, 1.0)),
}  # fmt: skip
# These belong to the kernel that renders, to batches, or to evaluation. `device_batches` refuses
# what only CPU cores render.
NOT_DRAWN = {
    "border", "interpolation", "evaluation_resize", "mixup", "cutmix", "mix_mode",
    "mix_probability", "switch_probability", "own",
}  # fmt: skip


def test_the_kernels_know_every_setting() -> None:
    """A new setting of Augmentation must be drawn on the device, too, or named here."""
    base = Augmentation(image_size=32, crop="random", flip="horizontal", perspective=0.1, erase=0.2)
    base = base.resolved([], [])
    for field in fields(Augmentation):
        if field.name not in NOT_DRAWN:
            assert field.name in CHANGED, f"give another value of {field.name} in CHANGED"
            spec = replace(base, **{field.name: CHANGED[field.name]})
            assert _numbers(spec) != _numbers(base), field.name
    for field in fields(Policy):
        reads = "rand_augment" if field.name not in Policy.unread("rand_augment") else "augmix"
        spec = replace(base, policy=Policy(reads))
        others = {"name": "auto_augment_svhn", "all_ops": False, "chain_depth": 2}
        value: Any = others.get(field.name)
        if value is None:
            value = getattr(spec.policy, field.name) + 1
        changed = replace(base, policy=Policy(**({"name": reads} | {field.name: value})))
        assert _numbers(spec) != _numbers(changed), field.name


def _numbers(spec: Augmentation) -> Any:
    """All that the kernels know of an augmentation."""
    chains: Any = ()
    if spec.policy:
        space = space_of(spec.policy, spec.image_size)
        chains = device_chains.switches(space), device_chains.table(space, spec.image_size).tolist()
    return device.switches(spec), device.table(spec).tolist(), chains


@pytest.mark.parametrize("words", [(), pytest.param(("all",), marks=pytest.mark.slow)])
def test_batches_made_on_the_device_equal_those_of_the_loader(
    words: tuple[str, ...], tmp_path: Path, interpreter: Warm
) -> None:
    """Across the ends of epochs, with MixUp and CutMix, from the middle of an epoch. The slow test
    adds other pixels: warps, policies and blurs."""
    script = Path(__file__).with_name("made_on_device.py")
    done = interpreter.run_file(script, tmp_path, *words)
    assert done.returncode == 0, done.stderr
