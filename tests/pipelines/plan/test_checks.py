"""A value of another type than that of its setting is a ConfigError that names the setting."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from slipform.pipelines.errors import ConfigError
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.plan.color_jitter import ColorJitter
from slipform.pipelines.plan.policy import Policy


@pytest.mark.parametrize(
    ("cls", "options", "says"),
    [
        (Augmentation, {"policy": "rand_augment"}, 'augment.policy = "rand_augment": give Policy'),
        (Augmentation, {"policy": {"name": "augmix"}}, "augment.policy = .* give Policy"),
        (Augmentation, {"policy": None}, "augment.policy = None"),
        (Augmentation, {"color_jitter": 0.4}, r"color_jitter = 0.4: give ColorJitter\(...\), in a"),
        (Augmentation, {"image_size": 24.5}, "augment.image_size = 24.5: give a whole number"),
        (Augmentation, {"image_size": "24"}, 'augment.image_size = "24"'),
        (Augmentation, {"rotation": "10"}, 'augment.rotation = "10": give a number'),
        (Augmentation, {"mixup": float("inf")}, "augment.mixup = inf: give a number"),
        (Augmentation, {"scale": 0.5}, "augment.scale = 0.5: give two numbers"),
        (Augmentation, {"zoom": (1.0, float("nan"))}, "augment.zoom = .*: give two numbers"),
        (Augmentation, {"ratio": "12"}, 'augment.ratio = "12": give two numbers'),
        (Augmentation, {"normalize": 3}, "augment.normalize = 3: give two times 3 numbers"),
        (Augmentation, {"normalize": ((0, 0, 0), (1, "a", 1))}, "augment.normalize = "),
        (Augmentation, {"normalize": ((0, 0, 0), 1)}, "augment.normalize = "),
        (Augmentation, {"flip": None}, 'augment.flip = None: give one of "none", "horizontal"'),
        (Augmentation, {"crop": 1}, "augment.crop = 1: give one of"),
        (Policy, {"name": None}, 'augment.policy.name = None: give one of "none"'),
        (ColorJitter, {"hue": "a"}, 'augment.color_jitter.hue = "a": give a number'),
        (ColorJitter, {"brightness": float("nan")}, "augment.color_jitter.brightness = nan"),
        (Policy, {"num_ops": 2.5}, "augment.policy.num_ops = 2.5: give a whole number"),
        (Policy, {"num_ops": "2"}, 'augment.policy.num_ops = "2"'),
        (Policy, {"magnitude": 9.5}, "augment.policy.magnitude = 9.5"),
        (Policy, {"alpha": "1"}, 'augment.policy.alpha = "1"'),
        (Policy, {"all_ops": "no"}, 'augment.policy.all_ops = "no": give true or false'),
    ],
)
def test_another_type(cls: Any, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        cls(**options)


def test_numbers_of_numpy_and_lists() -> None:
    normalize = (np.array([0.1, 0.2, 0.3], np.float32), [1, 1, 1])
    spec = Augmentation(
        image_size=np.int64(32),
        rotation=np.float32(5),
        scale=[0.5, 1],
        normalize=normalize,  # type: ignore[arg-type]
    )
    assert spec.scale == (0.5, 1)
    assert isinstance(spec.normalize, tuple)
    assert spec.normalize[1] == (1.0, 1.0, 1.0)
    hash(spec)


def test_the_magnitude_is_a_setting_of_rand_augment_alone() -> None:
    assert Policy("trivial_augment_wide", num_magnitude_bins=5).magnitude == 9
    with pytest.raises(ConfigError, match="magnitude = 9: give 0 to 4"):
        Policy("rand_augment", num_magnitude_bins=5)
