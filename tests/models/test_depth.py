"""The layers of nets that do not group their own parameters, and their learning rates."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from slipform.models.depth import layer_depths, layer_scales
from slipform.models.freeze import parameter_groups
from slipform.models.registry import build
from slipform.models.spec import ModelConfig


def _build(name: str) -> nn.Module:
    with torch.device("meta"):
        return build(ModelConfig(name), num_classes=5, image_size=224)


# Net -> its number of layers, and layers by parameters that belong to them.
LAYERS = {
    "alexnet": (8, {"features.0.weight": 0, "features.10.bias": 4, "classifier.6.weight": 7}),
    "vgg11_bn": (11, {"features.1.bias": 0, "features.4.weight": 1, "classifier.0.weight": 8}),
    "resnet18": (
        10,
        {"bn1.weight": 0, "layer1.0.conv1.weight": 1, "layer4.1.bn2.bias": 8, "fc.bias": 9},
    ),
    "vit_b_16": (
        14,
        {
            "class_token": 0,
            "encoder.pos_embedding": 0,
            "encoder.layers.encoder_layer_0.ln_1.weight": 1,
            "encoder.layers.encoder_layer_11.mlp.3.bias": 12,
            "encoder.ln.weight": 12,
            "heads.head.weight": 13,
        },
    ),
    "densenet121": (63, {"features.denseblock1.denselayer2.conv1.weight": 2}),
    "mobilenet_v2": (20, {"features.0.1.weight": 0, "features.18.1.bias": 18}),
    "convnext_tiny": (23, {"features.1.0.layer_scale": 1, "classifier.2.weight": 22}),
    "tiny": (5, {"classifier.0.weight": 4}),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_the_blocks_in_order(name: str) -> None:
    model = _build(name)
    depths = layer_depths(model)
    number, known = LAYERS[name]
    assert list(depths) == [key for key, _ in model.named_parameters()]
    assert sorted(set(depths.values())) == list(range(number))
    assert {key: depths[key] for key in known} == known


def test_the_head_has_the_full_rate_and_each_layer_before_it_less() -> None:
    model = _build("resnet18")
    scales = layer_scales(model, 0.5)
    assert scales["fc.weight"] == 1
    assert scales["layer4.1.conv1.weight"] == 0.5
    assert scales["conv1.weight"] == scales["bn1.bias"] == 0.5**9


def test_groups_multiply_with_the_other_rates() -> None:
    model = _build("resnet18")
    groups = parameter_groups(model, lr=0.1, head_lr=0.8, weight_decay=0.01, layer_decay=0.5)
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert rates[id(model.fc.weight)] == 0.8
    assert rates[id(model.layer4[1].conv1.weight)] == pytest.approx(0.05)
    assert rates[id(model.conv1.weight)] == pytest.approx(0.1 * 0.5**9)
    assert {group["weight_decay"] for group in groups} == {0.01}
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))


def test_without_decay_the_groups_are_as_they_were() -> None:
    model = _build("resnet18")
    assert [g["name"] for g in parameter_groups(model, lr=0.1)] == ["body", "head"]
    assert [g["name"] for g in parameter_groups(model, lr=0.1, layer_decay=1.0)] == ["body", "head"]
