"""The layers of a net: their shapes and parameters, and the operations as torchvision counts
them."""

from __future__ import annotations

import pytest
import torch
import torchvision
from click.testing import CliRunner

from slipform.models.freeze import apply
from slipform.models.registry import build
from slipform.models.spec import ModelConfig
from slipform.models.structure import layers
from slipform.train.commands.models import models


@pytest.mark.parametrize("name", ["alexnet", "resnet18", "vgg16", "mobilenet_v3_small", "vit_b_32"])
def test_operations_are_those_of_torchvision(name: str) -> None:
    """torchvision states multiply-adds in units of 10**9, with three decimals."""
    stated = torchvision.models.get_model_weights(name).DEFAULT.meta
    with torch.device("meta"):
        model = build(ModelConfig(name), num_classes=1000, image_size=224)
    whole = layers(model, 224)[-1]
    assert whole.flops / 2e9 == pytest.approx(stated["_ops"], rel=0.01, abs=0.002)
    assert whole.parameters == stated["num_params"]
    assert whole.output == (1000,)


def test_each_layer_is_listed_once_with_its_own_numbers() -> None:
    model = build(ModelConfig("resnet18"), num_classes=10, image_size=64)
    apply(model, freeze=["layer1"], train_layers=[])
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = {layer.name: layer for layer in layers(model, 64)}
    first = found["conv1"]
    assert (first.kind, first.output) == ("Conv2d", (64, 32, 32))
    assert first.flops == 2 * 7 * 7 * 3 * 64 * 32 * 32
    assert found["layer1.0.relu"].calls == 2
    assert (found["layer1.0.conv1"].trainable, found["layer2.0.conv1"].trainable) == (0, 73728)
    assert found["fc"].flops == 2 * 512 * 10
    inner = [layer for name, layer in found.items() if name]
    assert sum(layer.parameters for layer in inner) == found[""].parameters
    assert sum(layer.flops for layer in inner) == found[""].flops
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_the_command_shows_the_layers() -> None:
    arguments = [
        "show",
        "tiny",
        "--image-size",
        "32",
        "--classes",
        "5",
        "--set",
        "model.options.width=8",
    ]
    result = CliRunner().invoke(models, arguments)
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0].split() == ["layer", "kind", "output", "parameters", "operations"]
    model = build(ModelConfig("tiny", options={"width": 8}), num_classes=5, image_size=32)
    total = sum(tensor.numel() for tensor in model.parameters())
    assert f"{total:,} parameters, {total:,} trainable" in lines[-1]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["show", "resnet19"], "Did you mean"),
        (["show", "resnet18", "--set", "model.widht=3"], "widht"),
        (["show", "vit_b_32", "--image-size", "50"], "cannot take images of 50 px"),
    ],
)
def test_errors_name_allowed_values(arguments: list[str], text: str) -> None:
    result = CliRunner().invoke(models, arguments)
    assert result.exit_code == 1
    assert text in result.output
