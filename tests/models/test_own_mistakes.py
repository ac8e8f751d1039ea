"""A mistake in a user's own net, or in its options, gives an error that says what to change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any

import pytest
from pydantic import Field
from torch import Tensor, nn

from slipform.models.registry import build
from slipform.models.spec import REGISTERED, ModelConfig, register_model
from slipform.pipelines.errors import ConfigError


@pytest.fixture
def register() -> Iterator[Callable[[Callable[..., Any]], None]]:
    """Register a function as the net "mine" for one test."""

    def as_mine(function: Callable[..., Any]) -> None:
        function.__name__ = "mine"
        register_model(function)

    yield as_mine
    REGISTERED.pop("mine", None)


class Pair(nn.Linear):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        logits = super().forward(x.flatten(1))
        return logits, logits


class Scale(nn.Module):
    """A net without any layer of torch."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(Tensor(3, num_classes).zero_())

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) @ self.weight


def test_an_option_out_of_range_is_no_matter_of_the_image_size() -> None:
    config = ModelConfig("tiny", options={"width": -1})
    with pytest.raises(ConfigError, match=r'"tiny" cannot be built.* negative .*"width" = -1') as e:
        build(config, num_classes=2, image_size=32)
    assert "none of" not in str(e.value)


@pytest.mark.parametrize("setting", ["name", "head", "frozen_norm"])
def test_a_setting_that_is_no_text(setting: str) -> None:
    with pytest.raises(ConfigError, match=f"model.{setting} = None: give a text"):
        ModelConfig(**{setting: None})


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize(("name", "width"), [("tiny", 0), ("fc10", 0), ("tiny", 10**30)])
def test_an_option_that_torch_refuses_with_another_error(name: str, width: int) -> None:
    config = ModelConfig(name, options={"width": width})
    with pytest.raises(ConfigError, match=f'"{name}" cannot be built.*"width" = {width}'):
        build(config, num_classes=2, image_size=32)


def test_an_error_of_the_code_stays_what_it_is(register: Any) -> None:
    def broken(*, num_classes: int, image_size: int) -> nn.Module:
        raise IndexError("no such layer")

    register(broken)
    with pytest.raises(IndexError, match="no such layer"):
        build(ModelConfig("mine"), num_classes=2, image_size=8)


def test_an_error_without_words_is_named(register: Any) -> None:
    def refuses(*, num_classes: int, image_size: int) -> nn.Module:
        raise AssertionError

    register(refuses)
    with pytest.raises(ConfigError, match=r'"mine" cannot be built.*: AssertionError$'):
        build(ModelConfig("mine"), num_classes=2, image_size=8)


def test_a_net_must_return_one_tensor_of_logits(register: Any) -> None:
    def pair(*, num_classes: int, image_size: int) -> nn.Module:
        return Pair(3 * image_size**2, num_classes)

    def features(*, num_classes: int, image_size: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * image_size**2, num_classes + 1))

    register(pair)
    with pytest.raises(ConfigError, match="Pair returns tuple: a net must return one tensor"):
        build(ModelConfig("mine"), num_classes=2, image_size=8)
    register(features)
    with pytest.raises(ConfigError, match=r'"mine" returns \[2, 3\] for 2 images: .*\[2, 2\]'):
        build(ModelConfig("mine"), num_classes=2, image_size=8)


def test_a_missing_option_is_named(register: Any) -> None:
    def needs(*, num_classes: int, image_size: int, width: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * image_size**2, num_classes))

    register(needs)
    with pytest.raises(ConfigError, match=r'model\.options of "mine": .*\'width\''):
        build(ModelConfig("mine"), num_classes=2, image_size=8)


def test_annotations_with_bounds_are_checked_and_the_rest_is_no_option(register: Any) -> None:
    def bounded(
        *, num_classes: int, image_size: int, rate: Annotated[float, Field(lt=1)] = 0.0, **more: Any
    ) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * image_size**2, num_classes))

    register(bounded)
    assert list(REGISTERED["mine"].options) == ["rate"]
    with pytest.raises(
        ConfigError, match=r'model\.options\.rate = 1\.5 for "mine": .* less than 1'
    ):
        build(ModelConfig("mine", options={"rate": 1.5}), num_classes=2, image_size=8)


def test_a_net_without_layers_of_torch_is_built_and_has_no_head(register: Any) -> None:
    def scale(*, num_classes: int, image_size: int) -> nn.Module:
        return Scale(num_classes)

    register(scale)
    build(ModelConfig("mine"), num_classes=2, image_size=8)
    frozen = build(ModelConfig("mine", freeze="weight"), num_classes=2, image_size=8)
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    with pytest.raises(
        ConfigError, match=r'no layer "head"\..*Allowed: all_but_head, none, weight'
    ):
        build(ModelConfig("mine", freeze="head"), num_classes=2, image_size=8)
    with pytest.raises(ConfigError, match="Scale has neither a linear layer nor a convolution"):
        build(ModelConfig("mine", head="mlp"), num_classes=2, image_size=8)
