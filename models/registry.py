"""Every net by its name: `build(ModelConfig(name="resnet18"), num_classes=10, image_size=224)` ->
nn.Module.

In: the [model] section of a recipe, the number of classes, the side of the square images in pixels.
Out: a torch module from images, float [N, 3, S, S], to logits, float [N, num_classes], with weights
loaded and layers frozen as configured.

torchvision's classification models are there by torchvision's names. A net of our own is a function
decorated with `@net` in any file of this folder: its keyword arguments after `num_classes` and
`image_size` are the net's options. Importing this module does not import torch, so that settings
can be checked quickly.
"""

from __future__ import annotations

import importlib
import pkgutil
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from slipform import models
from slipform.pipelines.errors import ConfigError, unknown

if TYPE_CHECKING:
    from torch import nn

    from slipform.models.weights import LoadReport

HEADS = ("linear", "mlp")
Builder = Callable[..., "nn.Module"]


@dataclass(frozen=True)
class ModelConfig:
    """The [model] section of a recipe."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 (pydantic reads it; it is no field)

    name: str = "alexnet"
    # none | imagenet | a torchvision entry such as IMAGENET1K_V1 | path of a file or run folder
    weights: str = "none"
    head: str = "linear"  # linear | mlp
    small_input: bool = False  # a stem for 32 px: ResNets, AlexNet, VGG
    freeze: (
        str | tuple[str, ...]
    ) = ()  # names of layers, head, all_but_head, none; commas separate too
    train_layers: str | tuple[str, ...] = ()  # the other way round: only these are trained
    options: dict[str, Any] = field(
        default_factory=dict
    )  # keyword arguments of the net itself, such as width = 32

    def __post_init__(self) -> None:
        if self.head not in HEADS:
            raise unknown("model.head", self.head, HEADS)
        if self.freeze and self.train_layers:
            raise ConfigError(
                "model.freeze and model.train_layers say the same thing in two ways: give one of"
                " them"
            )


@dataclass(frozen=True)
class Net:
    """A builder, called as build(num_classes=..., image_size=..., **options), and the type of each
    of its options."""

    build: Builder
    options: Mapping[str, Any]


_OWN: dict[str, Net] = {}


def net(builder: Builder) -> Builder:
    """Decorator: registers `builder(*, num_classes, image_size, **options) -> nn.Module` under its
    function's name."""
    hints = typing.get_type_hints(builder)
    _OWN[builder.__name__] = Net(
        builder,
        {k: v for k, v in hints.items() if k not in ("num_classes", "image_size", "return")},
    )
    return builder


def _own_nets() -> dict[str, Net]:
    """Our own nets, after importing every file of this folder, where they register themselves."""
    for module in pkgutil.iter_modules(models.__path__, "slipform.models."):
        importlib.import_module(module.name)
    return _OWN


def names() -> list[str]:
    """The names of all nets, sorted."""
    from slipform.models import torchvision_nets as backbones

    return sorted({*_own_nets(), *backbones.names()})


def find(config: ModelConfig) -> Net:
    """The net of a configuration, its options checked. Raises ConfigError for an unknown net or
    option."""
    own = _own_nets().get(config.name)
    if own is None:
        from slipform.models import torchvision_nets as backbones

        if config.name not in backbones.names():
            raise unknown("model", config.name, names())
        return backbones.find(config.name, small_input=config.small_input)
    if config.small_input:
        raise ConfigError(
            f'model.small_input is for torchvision models: "{config.name}" is made for small'
            " images, leave it out"
        )
    return own


def checked_options(config: ModelConfig, net: Net) -> dict[str, Any]:
    """config.options, each converted to its type. Raises ConfigError for one that does not exist or
    does not fit."""
    from pydantic import TypeAdapter, ValidationError

    options = {}
    for key, value in config.options.items():
        if not net.options:
            raise ConfigError(f'"{config.name}" has no options: leave model.options.{key} out')
        if key not in net.options:
            raise unknown(f'option of model "{config.name}"', key, net.options)
        try:
            options[key] = TypeAdapter(net.options[key]).validate_python(value)
        except ValidationError as error:
            raise ConfigError(
                f'model.options.{key} = {value!r} for "{config.name}": {error.errors()[0]["msg"]}'
            ) from None
    return options


def build(
    config: ModelConfig,
    *,
    num_classes: int,
    image_size: int,
    on_load: Callable[[LoadReport], object] | None = None,
) -> nn.Module:
    """The net of a configuration, on the CPU in float32, in training mode.

    on_load is called with the report of what was loaded where config.weights is not "none"; left
    out, the report is logged. Raises ConfigError for an unknown net, option or layer, a size the
    net cannot take, and weights that cannot be had.
    """
    from slipform.models import freeze, heads, probe, weights

    net = find(config)
    options = checked_options(config, net)

    def make(size: int) -> nn.Module:
        model = net.build(num_classes=num_classes, image_size=size, **options)
        if config.head == "mlp":
            heads.replace_head(model, "mlp", num_classes)
        return model

    model = probe.build_for_size(make, config, num_classes, image_size)
    if config.weights != "none":
        report = weights.load_weights(model, config.weights, config.name)
        (on_load or weights.log_report)(report)
    freeze.apply(model, freeze=config.freeze, train_layers=config.train_layers)
    freeze.set_train_mode(model)
    return model
