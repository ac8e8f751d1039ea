"""Nets and deterministic algorithms on a GPU, tested on the meta device."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from slipform.models import registry
from slipform.models.spec import ModelConfig
from slipform.pipelines.errors import ConfigError
from slipform.train.machine.deterministic import check_deterministic, refused_operators

SIZES = {"fast": 32, "tiny": 32, "inception_v3": 299}
QUICK = ("alexnet", "fast", "resnet18", "tiny", "vgg11_bn")


# RegNets compute their widths with tensors, which the meta device does not support. They differ in
# widths only.
REGNETS = ("regnet_x_400mf", "regnet_y_400mf")
NAMES = [n for n in registry.names() if not n.startswith("regnet") or n in REGNETS]


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in NAMES]
)
def test_every_net_can_be_trained_deterministically(name: str) -> None:
    size = SIZES.get(name, 224)
    with torch.device("cpu" if name in REGNETS else "meta"):
        model = registry.build(ModelConfig(name=name), num_classes=10, image_size=size)
    assert refused_operators(model, size) == []


def test_the_check_finds_operators_that_torch_refuses() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveMaxPool2d(1), nn.Flatten())
    assert refused_operators(model, 16) == ["adaptive_max_pool2d_backward"]
    assert all(value.device.type == "cpu" for value in model.parameters())
    with torch.device("meta"):
        alexnet = registry.build(ModelConfig(name="alexnet"), num_classes=10, image_size=128)
    with pytest.raises(ConfigError, match=r"_adaptive_avg_pool2d_backward.*224"):
        check_deterministic(alexnet, 128)
