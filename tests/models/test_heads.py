"""The head is found and replaced in nets of every structure."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from slipform.models.heads import head_names, replace_head
from slipform.models.registry import build
from slipform.models.spec import ModelConfig

HEADS = {
    "alexnet": "classifier.6",
    "densenet121": "classifier",
    "efficientnet_b0": "classifier.1",
    "googlenet": "fc",
    "mobilenet_v3_small": "classifier.3",
    "resnet18": "fc",
    "squeezenet1_1": "classifier.1",
    "vit_b_32": "heads.head",
    "cnn": "classifier.4",
    "tiny": "classifier.0",
    "fast": "classifier",
}
QUICK = ("resnet18", "squeezenet1_1", "tiny")


@pytest.mark.parametrize(("name", "expected"), HEADS.items())
def test_head_is_the_layer_with_the_classes(name: str, expected: str) -> None:
    with torch.device("meta"):
        model = build(ModelConfig(name), num_classes=17, image_size=64)
    assert head_names(model)[0] == expected
    layer = model.get_submodule(expected)
    assert 17 in (getattr(layer, "out_features", 0), getattr(layer, "out_channels", 0))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(x, marks=() if x in QUICK else pytest.mark.slow)
        for x in HEADS
        if x != "vit_b_32"
    ],
)
def test_mlp_head_is_linear_leaky_relu_dropout_linear(name: str) -> None:
    model = build(ModelConfig(name, head="mlp"), num_classes=7, image_size=64)
    head = model.get_submodule(head_names(model)[0])
    assert isinstance(head, nn.Sequential)
    linear = "Conv2d" if name.startswith("squeezenet") else "Linear"
    assert [type(layer).__name__ for layer in head] == [linear, "LeakyReLU", "Dropout", linear]
    assert model(torch.randn(2, 3, 64, 64)).shape == (2, 7)


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "tiny"])
@pytest.mark.parametrize("kinds", [("linear", "mlp"), ("mlp", "linear"), ("mlp", "mlp")])
def test_heads_can_be_replaced_again(name: str, kinds: tuple[str, str]) -> None:
    model = build(ModelConfig(name, head=kinds[0]), num_classes=7, image_size=64)
    name_before = head_names(model)[0]
    replace_head(model, kinds[1], 5)
    assert head_names(model)[0] == name_before
    assert model(torch.randn(2, 3, 64, 64)).shape == (2, 5)


@pytest.mark.parametrize(
    "name", ["googlenet", pytest.param("inception_v3", marks=pytest.mark.slow)]
)
def test_training_gives_one_output_without_auxiliary_heads(name: str) -> None:
    model = build(ModelConfig(name), num_classes=10, image_size=96).train()
    assert model(torch.randn(2, 3, 96, 96)).shape == (2, 10)
    assert not any("aux" in key for key, _ in model.named_parameters() if "." in key)
