"""normalize = "model": mean, deviation, size and crop share are those of the net."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torchvision

from slipform.pipelines.errors import ConfigError
from slipform.pipelines.manifest import read_manifest
from slipform.train.config.own_input import input_note
from slipform.train.config.recipe import Recipe
from slipform.train.config.resolve import resolve
from slipform.train.config.run_config import RunConfig
from slipform.train.config.toml import to_toml

HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def _resolved(*sets: str, base: dict[str, Any] | None = None) -> RunConfig:
    return resolve(Recipe("r", base or {}), ["augment.normalize=model", *sets])


@pytest.mark.parametrize(
    ("sets", "size", "resize", "normalize"),
    [
        (["model.name=timm/tf_efficientnet_lite0"], 224, 256, HALF),
        (["model.name=timm/tf_efficientnet_lite4"], 380, 413, HALF),
        (["model.name=timm/resnet18"], 224, 235, IMAGENET),
        (["model.name=timm/resnet18", "augment.image_size=128"], 128, 134, IMAGENET),
        (["model.name=timm/resnet18", "augment.resize=200"], 224, 200, IMAGENET),
        (["model.name=resnet18"], 224, 256, IMAGENET),
        (["model.name=efficientnet_b1", "model.weights=IMAGENET1K_V1"], 240, 256, IMAGENET),
        (["model.name=efficientnet_b1", "model.weights=IMAGENET1K_V2"], 240, 255, IMAGENET),
        (["model.name=efficientnet_b1", "model.weights=x.pth"], 240, 255, IMAGENET),
    ],
)
def test_numbers_of_the_net(sets: list[str], size: int, resize: int, normalize: object) -> None:
    augment = _resolved(*sets).augment
    assert (augment.image_size, augment.resize) == (size, resize)
    assert augment.normalize == normalize
    assert augment.crop == "center"


@pytest.mark.parametrize("name", ["resnet18", "vit_b_16", "swin_t", "convnext_tiny", "vgg16"])
def test_torchvisions_transform_is_the_same(name: str) -> None:
    theirs = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    augment = _resolved(f"model.name={name}", "model.weights=pretrained").augment
    assert [augment.image_size] == theirs.crop_size
    assert [augment.resize] == theirs.resize_size
    assert augment.normalize == (tuple(theirs.mean), tuple(theirs.std))


def test_a_net_whose_images_are_squashed() -> None:
    """Its images are resized to a square."""
    assert _resolved("model.name=timm/convnext_base.fb_in22k_ft_in1k_384").augment.crop == "none"
    given = _resolved("model.name=timm/convnext_base.fb_in22k_ft_in1k_384", "augment.crop=random")
    assert given.augment.crop == "random"


def test_single_settings() -> None:
    config = resolve(
        Recipe(
            "r", {"augment": {"normalize": "dataset", "image_size": "model", "resize": "model"}}
        ),
        ["model.name=timm/tf_efficientnet_lite4"],
    )
    assert (config.augment.image_size, config.augment.resize) == (380, 413)
    assert config.augment.normalize == "dataset"


def test_the_filter_of_the_resize() -> None:
    config = _resolved("model.name=timm/tf_efficientnet_lite0", "augment.interpolation=model")
    assert config.augment.interpolation == "bicubic"
    assert _resolved(
        "model.name=resnet18", "augment.interpolation=model"
    ).augment.interpolation == ("bilinear")
    # It is on CPU cores only, so it is not taken with the other numbers.
    assert _resolved("model.name=timm/tf_efficientnet_lite0").augment.interpolation == "bilinear"


def test_the_run_of_a_sweep_has_the_numbers_of_its_net() -> None:
    text = {"augment": {"normalize": "model"}, "model": {"name": "resnet18"}}
    assert _resolved(base=text).augment.image_size == 224
    assert _resolved("model.name=timm/test_vit", base=text).augment.image_size == 160


def test_config_toml_has_numbers() -> None:
    text = to_toml(_resolved("model.name=timm/tf_efficientnet_lite0"))
    assert "normalize = [[0.5, 0.5, 0.5], [0.5, 0.5, 0.5]]" in text
    assert (
        RunConfig()
        .replace("model.name", "timm/test_vit")
        .replace("augment.normalize", "model")
        .augment.normalize
        == _resolved("model.name=timm/test_vit").augment.normalize
    )


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (["model.name=tiny"], 'nothing is known about the images of the net "tiny"'),
        (["model.name=timm/resnt18"], "Similar names: timm/resnet18"),
        (["augment.normalize=modle"], 'Did you mean "model"?'),
        (["augment.normalize=dataset", "augment.resize=models"], "augment.resize"),
        (["augment.image_size=small"], "augment.image_size"),
        (["model.name=3"], "model.name"),
        (["model=3"], "model"),
    ],
)
def test_what_cannot_be_known(sets: list[str], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _resolved(*sets)
    assert words in caught.value.message


def note(*sets: str, weights: str = "pretrained") -> str:
    return " ".join(input_note(_config(*sets, f"model.weights={weights}")))


def _config(*sets: str) -> RunConfig:
    return resolve(Recipe("r", {}), sets)


def test_the_log_describes_the_images_of_the_net(tmp_path: Path) -> None:
    assert note("model.name=resnet18", weights="none") == ""
    assert note("model.name=tiny", weights="x.pth") == ""
    assert note("model.name=timm/resnet18", weights=str(tmp_path)) == ""
    assert note("model.name=resnet18", "augment.normalize=imagenet") == (
        "images of the pretrained resnet18: 224 px, resize 256 (bilinear), mean 0.485 0.456 0.406,"
        " deviation 0.229 0.224 0.225. This run has the same in evaluation."
    )
    lite0 = note("model.name=timm/tf_efficientnet_lite0", "augment.normalize=imagenet")
    assert lite0.startswith(
        "images of the pretrained timm/tf_efficientnet_lite0: 224 px, resize 256"
    )
    assert lite0.endswith(
        'This run differs: augment.normalize = "imagenet", bilinear resize with antialiasing.'
        ' For those of the net: augment.normalize = "model", augment.interpolation = "model".'
    )
    sets = ["model.name=timm/tf_efficientnet_lite0", "augment.normalize=model"]
    assert note(*sets).endswith(
        "This run differs: bilinear resize with antialiasing."
        ' For those of the net: augment.interpolation = "model".'
    )
    same = note(*sets, "augment.interpolation=model")
    assert same.endswith("This run has the same in evaluation.")


@pytest.mark.parametrize(
    ("sets", "differs"),
    [
        (
            ["augment.resize=224"],
            'resize 224 at 224 px. For those of the net: augment.resize = "model".',
        ),
        (["augment.evaluation_resize=232"], "resize 232 at 224 px."),
        (
            ["augment.image_size=128", "augment.resize=146"],
            '128 px. For those of the net: augment.image_size = "model".',
        ),
        (
            ["augment.image_size=128"],
            '128 px, resize 256 at 128 px. For those of the net: augment.image_size = "model",'
            ' augment.resize = "model".',
        ),
        (["augment.crop=none"], 'augment.crop = "none".'),
        (["train.eval_size=256"], "256 px in evaluation."),
        (["augment.crop=random_resized"], ""),
    ],
)
def test_every_difference_in_evaluation_is_named(sets: list[str], differs: str) -> None:
    said = note("model.name=resnet18", "augment.normalize=imagenet", *sets)
    if not differs:
        assert said.endswith("This run has the same in evaluation.")
    else:
        assert f"This run differs: {differs}" in said


def test_following_the_advice_leaves_no_difference() -> None:
    """A bilinear net without squeezed images, and one with them."""
    first = ["model.name=resnet18", "augment.image_size=96", "augment.normalize=half"]
    said = note(*first)
    words = re.findall(r'(augment\.\w+) = "model"', said)
    assert words == ["augment.image_size", "augment.resize", "augment.normalize"]
    advised = [f"{name}=model" for name in words]
    assert note(*first, *advised).endswith("This run has the same in evaluation.")
    squeezed = ["model.name=timm/convnext_base.fb_in22k_ft_in1k_384", "augment.normalize=model"]
    assert "384 px, squeezed to a square (bicubic)" in note(*squeezed)
    assert note(*squeezed).endswith(
        "This run differs: bilinear resize with antialiasing."
        ' For those of the net: augment.interpolation = "model".'
    )
    assert 'augment.crop = "center"' in note(*squeezed, "augment.crop=center")


def test_the_defaults_for_a_dataset_count_as_given(shapes: Path) -> None:
    sets = ["model.name=resnet18", "augment.normalize=model"]
    defaults = resolve(manifest=read_manifest(shapes)).augment
    augment = resolve(None, sets, read_manifest(shapes)).augment
    assert augment.normalize == IMAGENET
    assert (augment.image_size, augment.resize) == (defaults.image_size, defaults.resize)
    asked = [*sets, "augment.image_size=model", "augment.resize=model"]
    augment = resolve(None, asked, read_manifest(shapes)).augment
    assert (augment.image_size, augment.resize) == (224, 256)
