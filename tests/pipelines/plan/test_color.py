"""The color map gives the colors of torchvision's functions, and its factors have the distribution
of ColorJitter."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from slipform.pipelines.errors import ConfigError
from slipform.pipelines.plan.augmentation import MEAN_STD, Augmentation
from slipform.pipelines.plan.color_jitter import ColorJitter
from slipform.pipelines.plan.plan import draw

NUM = 4000
PLAIN = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def _colors(n: int = NUM, jitter: ColorJitter | None = None, **options: object) -> np.ndarray:
    """float64 [n, 3, 4]"""
    spec = Augmentation(
        **{"image_size": 8, "normalize": PLAIN, "color_jitter": jitter or ColorJitter()} | options
    )  # type: ignore[arg-type]
    sizes = np.full(n, 8, np.int32)
    return draw(spec, np.arange(n), sizes, sizes, 0, 0).color.astype(np.float64)


def _apply(color: np.ndarray, rgb: np.ndarray) -> np.ndarray:
    """rgb [..., 3] in 0..1"""
    return rgb * 255 @ color[:, :3].T + color[:, 3]


# Colors that stay within 0..1 in all adjustments below: torchvision would clamp others.
RGB = np.random.default_rng(0).uniform(0.35, 0.6, (7, 3))


def _torch(rgb: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(rgb).T.reshape(3, 1, -1)


def _numpy(image: torch.Tensor) -> np.ndarray:
    return image.expand(3, 1, -1).reshape(3, -1).T.numpy()


def _params(name: str, value: float) -> np.ndarray:
    torch.manual_seed(0)
    jitter = v2.ColorJitter(**{name: value})
    return np.array([jitter.make_params([])[f"{name}_factor"] for _ in range(NUM)])


@pytest.mark.parametrize("strength", [0.3, 0.8, 1.5])
def test_brightness(strength: float) -> None:
    colors = _colors(jitter=ColorJitter(brightness=strength))
    factors = colors[:, 0, 0] * 255
    assert stats.ks_2samp(factors, _params("brightness", strength)).pvalue > 1e-4
    for color, factor in zip(colors[:20], factors[:20], strict=True):
        small = RGB / 3
        np.testing.assert_allclose(
            _apply(color, small), _numpy(F.adjust_brightness(_torch(small), factor)), atol=1e-5
        )


@pytest.mark.parametrize("strength", [0.3, 1.5])
def test_contrast_turns_about_mid_grey(strength: float) -> None:
    colors = _colors(jitter=ColorJitter(contrast=strength))
    factors = colors[:, 0, 0] * 255
    assert stats.ks_2samp(factors, _params("contrast", strength)).pvalue > 1e-4
    for color, factor in zip(colors[:20], factors[:20], strict=True):
        np.testing.assert_allclose(_apply(color, RGB), (RGB - 0.5) * factor + 0.5, atol=1e-5)


@pytest.mark.parametrize("strength", [0.3, 1.5])
def test_saturation(strength: float) -> None:
    """The factor of red on red is luma + factor * (1 - luma)."""
    colors = _colors(jitter=ColorJitter(saturation=strength))
    factors = (colors[:, 0, 0] - colors[:, 1, 0]) * 255
    assert stats.ks_2samp(factors, _params("saturation", strength)).pvalue > 1e-4
    for color, factor in zip(colors[:20], factors[:20], strict=True):
        np.testing.assert_allclose(
            _apply(color, RGB), _numpy(F.adjust_saturation(_torch(RGB), factor)), atol=1e-4
        )


def test_hue_turns_about_the_grey_axis() -> None:
    colors = _colors(jitter=ColorJitter(hue=0.4))
    linear = colors[:, :, :3] * 255
    np.testing.assert_allclose(
        linear @ linear.transpose(0, 2, 1), np.tile(np.eye(3), (NUM, 1, 1)), atol=1e-5
    )
    np.testing.assert_allclose(linear.sum(2), 1, atol=1e-5)  # gray does not change
    turns = np.arctan2(
        (linear[:, 1, 0] - linear[:, 0, 1]) * np.sqrt(3) / 2,
        (np.trace(linear, axis1=1, axis2=2) - 1) / 2,
    )
    assert stats.ks_2samp(turns / (2 * np.pi), _params("hue", 0.4)).pvalue > 1e-4
    # The direction is that of torchvision: red becomes green at +1/3.
    third = linear[np.argmin(np.abs(turns / (2 * np.pi) - 1 / 3))]
    assert third[1, 0] > 0.99
    np.testing.assert_allclose(
        _numpy(F.adjust_hue(_torch(np.array([[1.0, 0, 0]])), 1 / 3)), [[0, 1, 0]], atol=1e-6
    )


def test_grayscale() -> None:
    colors = _colors(grayscale=0.3)
    gray = np.abs(colors[:, 0] - colors[:, 1]).max(1) == 0
    assert stats.binomtest(int(gray.sum()), NUM, 0.3).pvalue > 1e-4
    np.testing.assert_allclose(
        _apply(colors[gray][0], RGB), _numpy(F.rgb_to_grayscale(_torch(RGB))), atol=1e-4
    )
    np.testing.assert_allclose(_apply(colors[~gray][0], RGB), RGB, atol=1e-6)
    jittered = _colors(grayscale=1.0, jitter=ColorJitter(0.4, 0.4, 0.4, 0.1))
    assert np.abs(jittered - jittered[:, :1]).max() == 0


def test_the_four_are_independent_and_come_in_their_order() -> None:
    """The whole map is the product hue · saturation · contrast · brightness of the single maps."""
    alone = [
        _colors(jitter=ColorJitter(**{name: 0.4}))
        for name in ("brightness", "contrast", "saturation")
    ]
    alone.append(_colors(jitter=ColorJitter(hue=0.1)))
    together = _colors(jitter=ColorJitter(0.4, 0.4, 0.4, 0.1))
    for i in range(50):
        rgb = RGB
        for step in alone:
            rgb = _apply(step[i], rgb)
        np.testing.assert_allclose(_apply(together[i], RGB), rgb, atol=2e-4)
    factors = np.stack([a[:, 0, 0] - a[:, 1, 0] for a in alone[:3]])
    assert np.abs(np.corrcoef(factors) - np.eye(3)).max() < 0.07


@pytest.mark.parametrize("normalize", ["half", "imagenet", ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))])
def test_normalize(normalize: object) -> None:
    spec = Augmentation(normalize=normalize).resolved([0, 0, 0], [1, 1, 1])  # type: ignore[arg-type]
    numbers: Any = MEAN_STD[normalize] if isinstance(normalize, str) else normalize
    mean, std = numbers
    color = _colors(1, normalize=spec.normalize)[0]
    np.testing.assert_allclose(
        _apply(color, RGB), _numpy(F.normalize(_torch(RGB), list(mean), list(std))), atol=1e-5
    )


def test_normalize_by_the_dataset() -> None:
    spec = Augmentation(normalize="dataset").resolved([0.1, 0.2, 0.3], [0.4, 0.5, 0.6])
    assert spec.normalize == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


def test_a_constant_channel_of_a_dataset_is_not_scaled() -> None:
    """Such as green and blue, where red alone holds a measurement."""
    spec = Augmentation(normalize="dataset").resolved([0.1, 0.0, 1.0], [0.4, 0.0, 0.0])
    assert spec.normalize == ((0.1, 0.0, 1.0), (0.4, 1.0, 1.0))


def test_evaluation_has_nothing_random() -> None:
    spec = (
        Augmentation(
            image_size=8,
            crop="random_resized",
            flip="both",
            rotation=20,
            perspective=0.5,
            color_jitter=ColorJitter(0.4, 0.4, 0.4, 0.1),
            grayscale=0.5,
            mixup=1.0,
            erase=0.5,
            normalize="imagenet",
        )
        .evaluation()
        .resolved([], [])
    )
    sizes = np.full(50, 40, np.int32)
    plans = [draw(spec, np.arange(50), sizes, sizes, seed, seed) for seed in range(2)]
    for name in ("geometry", "color", "clip"):
        values = np.concatenate([getattr(plan, name) for plan in plans])
        assert (values == values[0]).all()
    assert plans[0].erase is None
    assert not spec.mixup


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"crop": "centre"}, 'Did you mean "center"'),
        ({"flip": "horisontal"}, 'Did you mean "horizontal"'),
        ({"border": "mirror"}, "Allowed: edge, reflect, zero"),
        ({"normalize": "imagnet"}, 'Did you mean "imagenet"'),
        ({"normalize": ((0, 0, 0), (1, 0, 1))}, "standard deviations above 0"),
        ({"normalize": ((0, 0, 0), (1, 1))}, "two times 3 numbers"),
        ({"zoom": [1.0]}, "two numbers"),
        ({"image_size": 0}, "image_size = 0: give 1 to 4096"),
        ({"resize": -1}, "resize"),
        ({"padding": 4}, "only with crop"),
        ({"scale": (0.0, 1.0)}, "scale"),
        ({"scale": (0.5, 0.2)}, "scale"),
        ({"ratio": (2.0, 1.0)}, "ratio"),
        ({"normalize": ((123.7, 116.3, 103.5), (58.4, 57.1, 57.4))}, "means of 0 to 1"),
        ({"zoom": (0.0, 1.0)}, "zoom"),
        ({"zoom": (1e-6, 1.0)}, "0.01 to 100"),
        ({"zoom": (1.0, 1e30)}, "0.01 to 100"),
        ({"shear": 89.99}, "0 to 89 degrees"),
        ({"translate": (0.0, 1.5)}, "translate"),
        ({"rotation": -1}, "rotation"),
        ({"shear": 90}, "shear"),
        ({"flip_probability": 1.5}, "flip_probability"),
        ({"erase": -0.1}, "erase"),
        ({"mixup": -1}, "mixup"),
    ],
)
def test_a_wrong_setting_is_named(options: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Augmentation(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"), [("brightness", -0.1), ("contrast", 101.0), ("hue", 0.6), ("hue", -0.1)]
)
def test_a_wrong_jitter_is_named(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"color_jitter.{name} = {value}"):
        ColorJitter(**{name: value})


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "hue"])
def test_a_jitter_is_true_if_it_changes_colors(name: str) -> None:
    assert ColorJitter(**{name: 0.1})
    assert not ColorJitter()
