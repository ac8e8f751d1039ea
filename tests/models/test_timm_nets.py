"""timm's nets: built, cut and grouped as by timm itself, over its families."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import timm
import torch
from timm.data import create_transform, resolve_data_config
from timm.models.vision_transformer import checkpoint_filter_fn
from timm.optim import create_optimizer_v2
from torch import nn

from slipform.models import freeze, timm_nets
from slipform.models.heads import head_names
from slipform.models.probe import check_size
from slipform.models.registry import build, describe, find, names, own_input
from slipform.models.spec import ModelConfig
from slipform.models.weight_file import write_weights
from slipform.models.weights import LoadReport
from slipform.pipelines.errors import ConfigError
from tests.models.timm_families import FAMILIES, SMALL
from tests.warm import Warm

CASES = [
    *SMALL,
    *(pytest.param(*case, marks=pytest.mark.slow) for case in FAMILIES),
]
NUM_CLASSES = 5
IDS = [getattr(case, "values", case)[0] for case in CASES]


def _build(name: str, size: int, num_classes: int = NUM_CLASSES, **settings: object) -> nn.Module:
    torch.manual_seed(0)
    config = ModelConfig(f"timm/{name}", **settings)
    return build(config, num_classes=num_classes, image_size=size)


def _classifiers(model: nn.Module) -> set[int]:
    """The parameters that timm says are the classifier."""
    given = model.get_classifier()
    parts = given if isinstance(given, tuple) else (given,)
    return {id(parameter) for part in parts for parameter in part.parameters()}


@pytest.mark.parametrize(("name", "size"), CASES, ids=IDS)
def test_a_net_keeps_the_contract(name: str, size: int, tmp_path: Path) -> None:
    model = _build(name, size)
    images, labels = torch.randn(6, 3, size, size), torch.arange(6) % NUM_CLASSES
    loss = nn.functional.cross_entropy(model(images), labels)
    loss.backward()
    # Every process must have a gradient for every parameter: DDP waits for them.
    lacks = [key for key, p in model.named_parameters() if p.grad is None]
    assert not lacks
    assert all(p.grad.isfinite().all() for p in model.parameters())
    assert float(loss.detach()) == pytest.approx(math.log(NUM_CLASSES), rel=0.25)

    # The head is what has another shape for other classes.
    head = {key for key in model.state_dict() if key.startswith(tuple(head_names(model)))}
    after = _build(name, size, NUM_CLASSES + 2).state_dict()
    differs = {key for key, t in model.state_dict().items() if after[key].shape != t.shape}
    assert differs
    assert differs <= head

    # A file with more classes: all but the head is loaded.
    write_weights(tmp_path / "w.safetensors", after, {})
    reports: list[LoadReport] = []
    config = ModelConfig(f"timm/{name}", weights=str(tmp_path / "w.safetensors"))
    again = build(config, num_classes=NUM_CLASSES, image_size=size, on_load=reports.append)
    assert {key for key, *_ in reports[0].mismatched} <= head
    assert reports[0].missing == ()
    assert reports[0].unexpected == ()
    assert all(torch.equal(t, after[k]) for k, t in again.state_dict().items() if k not in head)


@pytest.mark.parametrize(("name", "size"), CASES, ids=IDS)
def test_only_the_head_learns_and_frozen_norms_are_fixed(name: str, size: int) -> None:
    model = _build(name, size, freeze="all_but_head")
    learns = {id(p) for p in model.parameters() if p.requires_grad}
    assert learns
    assert learns <= _classifiers(model) or "repvit" in name  # its heads have norms of their own
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    frozen = [m for m in norms if not any(p.requires_grad for p in m.parameters())]
    assert not any(m.training for m in frozen if list(m.parameters()))


@pytest.mark.parametrize(("name", "size"), CASES, ids=IDS)
def test_rates_and_decay_are_those_of_timms_optimizer(name: str, size: int) -> None:
    model = _build(name, size)
    if not hasattr(model, "group_matcher"):
        pytest.skip("timm groups it by 12 parameters each; ours are its blocks")
    theirs = create_optimizer_v2(model, "adamw", lr=0.5, weight_decay=0.1, layer_decay=0.7)
    ours = freeze.parameter_groups(
        model, lr=0.5, weight_decay=0.1, decay_all=False, layer_decay=0.7
    )
    expected = {
        id(p): (0.5 * group["lr_scale"], group["weight_decay"])
        for group in theirs.param_groups
        for p in group["params"]
    }
    found = {id(p): (g["lr"], g["weight_decay"]) for g in ours for p in g["params"]}
    assert found.keys() == expected.keys()
    for key, values in found.items():
        assert values == pytest.approx(expected[key])
    assert len({group["name"] for group in ours}) == len(ours)


@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0", "vit_base_patch16_clip_224"])
def test_images_are_those_of_timms_transform(name: str) -> None:
    own = own_input(ModelConfig(f"timm/{name}"))
    assert own is not None
    cfg = timm.get_pretrained_cfg(name).to_dict()
    steps = {
        type(step).__name__: step
        for step in create_transform(**resolve_data_config(pretrained_cfg=cfg)).transforms
    }
    assert own.resize(own.image_size) == steps["Resize"].size
    assert (own.image_size, own.image_size) == steps["CenterCrop"].size
    assert torch.allclose(torch.tensor(own.mean), torch.as_tensor(steps["Normalize"].mean))
    assert torch.allclose(torch.tensor(own.std), torch.as_tensor(steps["Normalize"].std))
    assert own.interpolation == steps["Resize"].interpolation.value


def test_every_net_of_timm_says_what_its_images_are() -> None:
    for name in timm_nets.names():
        own = timm_nets._input(name)
        # VOLO has a crop share of 1.15: the crop is larger than the image, with black borders.
        assert 0.85 * own.image_size < own.resize(own.image_size) < 2 * own.image_size, name
        assert all(
            0 <= mean < 1 and 0 < std <= 1 for mean, std in zip(own.mean, own.std, strict=True)
        )


@pytest.mark.parametrize(("name", "size"), SMALL)
def test_the_mlp_head_stands_where_timms_classifier_was(name: str, size: int) -> None:
    model = _build(name, size, head="mlp")
    (head,) = head_names(model)
    assert isinstance(model.get_submodule(head), nn.Sequential)
    assert model(torch.randn(4, 3, size, size)).shape == (4, NUM_CLASSES)
    freeze.train_only(model, "head")
    learns = {key for key, p in model.named_parameters() if p.requires_grad}
    assert learns == {f"{head}.{key}" for key in ("0.weight", "0.bias", "3.weight", "3.bias")}


def test_dropout_and_drop_path_reach_the_net() -> None:
    options = {"drop_path_rate": 0.3, "drop_rate": 0.4, "attn_drop_rate": 0.1}
    model = _build("test_vit", 64, options=options)
    paths = [m for m in model.modules() if isinstance(m, timm.layers.DropPath)]
    assert paths[-1].drop_prob == pytest.approx(0.3)
    assert model.head_drop.p == 0.4
    assert model.blocks[0].attn.attn_drop.p == 0.1
    images = torch.randn(4, 3, 64, 64)
    assert not torch.equal(model(images), model(images))
    assert torch.equal(model.eval()(images), model(images))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("timm/resnt18", r'no timm net "resnt18"\. Similar names: timm/resnet18, '),
        ("timm/resnet18.a9_in1k", r'no weights with the tag "a9_in1k" .* Its tags: a1_in1k, '),
        ("timm/hf-hub:timm/resnet18.a1_in1k", r"Similar names: timm/resnet18, "),
        ("hf-hub:timm/resnet18.a1_in1k", 'Did you mean "timm/resnet18"?'),
        ("timm/", "All: slipform list nets timm/"),
        ("convnext_nano", 'Did you mean "timm/convnext_nano"?'),
        ("convnext_nano.in12k", 'Did you mean "timm/convnext_nano"?'),
    ],
)
def test_wrong_names(name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        find(ModelConfig(name))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"options": {"drop_path_rate": 1.0}}, "less than 1"),
        ({"options": {"drop_path": 0.1}}, 'Did you mean "drop_path_rate"?'),
        ({"options": {"dynamic_img_size": "maybe"}}, "give true or false"),
        ({"options": {"img_size": 64}}, 'no timm/test_vit option "img_size"'),
        ({"small_input": True}, 'remove it for "timm/test_vit"'),
        ({"weights": "r160_in1k"}, 'model.name = "timm/test_vit.TAG"'),
        ({"freeze": "bloks"}, 'no layer "bloks"'),
    ],
)
def test_wrong_settings(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        _build("test_vit", 64, **settings)


def test_a_size_that_does_not_fit_is_answered_with_sizes_that_do() -> None:
    with pytest.raises(ConfigError, match=r"cannot take images of 30 px\. Sizes that fit: .*224"):
        _build("test_vit", 30)


def test_another_size_than_that_of_the_build() -> None:
    """The logits are those of timm's net of that size, whose loader resizes the positions."""
    name, on = "vit_tiny_patch16_224", {"dynamic_img_size": True}
    with pytest.raises(ConfigError, match=r"px.*\. Set model\.options\.dynamic_img_size = true"):
        check_size(_build(name, 64), name, 96)
    model = _build(name, 64, options=on).eval()
    with torch.no_grad():
        model.head.weight.normal_()  # timm begins with zeros
        model.pos_embed.normal_()
    check_size(model, name, 96)
    theirs = timm.create_model(name, img_size=96, num_classes=NUM_CLASSES).eval()
    theirs.load_state_dict(checkpoint_filter_fn(model.state_dict(), theirs))
    images = torch.randn(2, 3, 96, 96)
    torch.testing.assert_close(model(images), theirs(images))
    with pytest.raises(ConfigError, match=r"px.*set model\.options\.dynamic_img_pad = true"):
        check_size(model, name, 100)
    check_size(_build(name, 64, options={**on, "dynamic_img_pad": True}), name, 100)


def test_torchvisions_nets_stay_the_default_and_need_no_timm(warm_process: Warm) -> None:
    """The import is refused, as where timm is not installed."""
    assert "timm/resnet18" not in names()
    assert ModelConfig().name == "alexnet"
    code = """
import sys
from importlib.machinery import PathFinder
class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name == "timm" else super().find_spec(name, path, target)
sys.meta_path = [Without if one is PathFinder else one for one in sys.meta_path]
from slipform.models import registry, timm_nets
from slipform.models.spec import ModelConfig
registry.build(ModelConfig("resnet18"), num_classes=3, image_size=64)
assert registry.names() and timm_nets.names() == ()
for name in ("timm/resnet18", "restnet18"):
    try:
        registry.find(ModelConfig(name))
    except Exception as error:
        print(type(error).__name__, error)
assert "timm" not in sys.modules
"""
    done = warm_process.run(code)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == (
        'ConfigError model.name = "timm/resnet18" needs timm. Install it:'
        ' pip install "slipform[timm]"'
    )
    assert 'Did you mean "resnet18"?' in second


def test_descriptions_name_size_and_tags() -> None:
    assert describe("timm/tf_efficientnet_lite0") == "timm, 224 px; in1k"
    assert describe("timm/resnet18").startswith("timm, 224 px; a1_in1k, ")
