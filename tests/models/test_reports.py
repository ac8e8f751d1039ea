"""The options of the small nets that give those of the reports. The defaults give the nets of older
run folders."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from slipform.models.registry import build
from slipform.models.reports import TestDropout
from slipform.models.spec import ModelConfig
from slipform.pipelines.errors import ConfigError

REPORT_CNN = {"pools": "last", "widths": [64, 128, 512, 128], "gray": True}


def _net(name: str, image_size: int, **options: Any) -> nn.Module:
    return build(ModelConfig(name, options=options), num_classes=10, image_size=image_size)


def _kinds(model: nn.Module) -> list[str]:
    kept = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, nn.BatchNorm2d, nn.Dropout, nn.Linear)
    return [type(module).__name__ for module in model.modules() if isinstance(module, kept)]


@pytest.mark.parametrize(
    ("options", "inputs"),
    [
        ({}, 12),
        ({"kernel_sizes": [5, 5]}, 10),
        ({"kernel_sizes": [3, 9]}, 9),
        ({"pool": "avg"}, 12),
        ({"pool": "stride"}, 12),
        ({"dilation": 2}, 10),
    ],
)
def test_the_report_s_cnn_has_one_pool(options: dict[str, Any], inputs: int) -> None:
    model = _net("cnn", 28, **REPORT_CNN, **options)
    kinds = _kinds(model)
    pool = {"avg": ["AvgPool2d"], "stride": []}.get(options.get("pool", ""), ["MaxPool2d"])
    assert kinds == ["Conv2d", "Conv2d", *pool, "Linear", "Linear", "Linear"]
    first = next(module for module in model.modules() if isinstance(module, nn.Linear))
    assert first.in_features == 128 * inputs**2


def test_the_default_cnn_has_a_pool_after_each_convolution() -> None:
    kinds = _kinds(_net("cnn", 28))
    assert kinds == ["Conv2d", "MaxPool2d", "Conv2d", "MaxPool2d", "Linear", "Linear", "Linear"]


@pytest.mark.parametrize(("name", "options"), [("fc", {"gray": True}), ("cnn", REPORT_CNN)])
def test_gray_nets_see_the_first_channel_only(name: str, options: dict[str, Any]) -> None:
    model = _net(name, 28, **options).eval()
    images = torch.randn(2, 3, 28, 28)
    others = images.clone()
    others[:, 1:] = torch.randn(2, 2, 28, 28)
    assert torch.equal(model(images), model(others))
    first = next(m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear))
    inputs = first.in_channels if isinstance(first, nn.Conv2d) else first.in_features
    assert inputs == (1 if name == "cnn" else 784)
    others[:, 0] += 1
    assert not torch.equal(model(images), model(others))


def test_conv_blocks_have_one_or_two_batch_norms() -> None:
    one = ["Conv2d", "Conv2d", "BatchNorm2d", "MaxPool2d", "Dropout"] * 2
    assert _kinds(_net("conv_blocks", 32, norms=1)) == [*one, "Linear", "Dropout", "Linear"]
    assert _kinds(_net("conv_blocks", 32)).count("BatchNorm2d") == 4


def test_dropout_option_stays_active_in_evaluation() -> None:
    options = {"width": 8, "final_width": 8, "hidden": 64, "dropout": 0.5}
    images = torch.randn(2, 3, 32, 32)
    usual = _net("conv", 32, **options).eval()
    assert torch.equal(usual(images), usual(images))
    active = _net("conv", 32, **options, test_dropout=True).eval()
    assert not torch.equal(active(images), active(images))
    hidden = torch.ones(2000)
    dropped = TestDropout(0.5).eval()(hidden)
    assert set(dropped.tolist()) == {0.0, 2.0}
    assert 800 < int((dropped == 0).sum()) < 1200  # 9 standard deviations in both directions


def test_alexnet_s_small_stem_may_change_the_first_pool() -> None:
    config = ModelConfig("alexnet", small_input=True, options={"small_stem": "pool"})
    model = build(config, num_classes=10, image_size=32)
    usual = build(ModelConfig("alexnet"), num_classes=10, image_size=224)
    features, before = model.get_submodule("features"), usual.get_submodule("features")
    changed = [
        i
        for i, (new, old) in enumerate(zip(features.children(), before.children(), strict=True))
        if repr(new) != repr(old)
    ]
    assert changed == [2]
    assert features(torch.randn(2, 3, 32, 32)).shape == (2, 256, 1, 1)
    assert model.load_state_dict(usual.state_dict() | _head(model)).missing_keys == []


def _head(model: nn.Module) -> dict[str, torch.Tensor]:
    return {k: v for k, v in model.state_dict().items() if k.startswith("classifier.6.")}


def test_only_a_small_alexnet_has_a_small_stem_to_choose() -> None:
    for name, small in (("alexnet", False), ("resnet18", True)):
        config = ModelConfig(name, small_input=small, options={"small_stem": "pool"})
        with pytest.raises(ConfigError, match="small_stem"):
            build(config, num_classes=10, image_size=64)
