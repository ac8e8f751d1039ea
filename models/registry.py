"""All nets, by name: `build(ModelConfig(name="resnet18"), num_classes=10, image_size=224)`.

In: the [model] section of a recipe, the number of classes, the side of the square images in pixels.
Out: a torch module from images, float [N, 3, S, S], to logits, float [N, num_classes], with weights
loaded and layers frozen as configured.

torchvision's classification models have torchvision's names, timm's have "timm/" before theirs.
Slipform's own nets are the functions in this folder with the decorator `slipform.models.spec.net`.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from slipform import models
from slipform.models import freeze, heads, imagenet, probe, timm_nets, torchvision_nets, weights
from slipform.models.spec import REGISTERED, InputSpec, ModelConfig, Net
from slipform.pipelines.errors import ConfigError, unknown
from slipform.pipelines.options import converted

__all__ = ["build", "checked_options", "describe", "fetch_weights", "find", "names", "own_input"]


def _own_nets() -> dict[str, Net]:
    """All registered nets. Imports every module of this folder, since that registers its nets."""
    for module in pkgutil.iter_modules(models.__path__, "slipform.models."):
        importlib.import_module(module.name)
    return REGISTERED


def names() -> list[str]:
    """The names of all nets but timm's, sorted; `timm_nets.names` has those."""
    return sorted({*_own_nets(), *torchvision_nets.names()})


def describe(name: str) -> str:
    """A description of a net.

    Args:
        name: One of `names()` or of `timm_nets.names()`.

    Returns:
        The docstring of its builder, or the size and the weights of a model of a library.
    """
    if name.startswith(timm_nets.PREFIX):
        return timm_nets.describe(name)
    own = _own_nets().get(name)
    return inspect.getdoc(own.build) or "" if own else torchvision_nets.describe(name)


def find(config: ModelConfig) -> Net:
    """The builder of a configuration's net.

    Args:
        config: Its name and small_input are read.

    Raises:
        ConfigError: There is no such net, or it has no stem for small images.
    """
    is_timm = config.name.startswith(timm_nets.PREFIX)
    own = None if is_timm else _own_nets().get(config.name)
    if own is None and not is_timm:
        if config.name not in torchvision_nets.names():
            raise unknown("model", config.name, [*names(), *timm_nets.prefixed(config.name)])
        return torchvision_nets.find(config.name, small_input=config.small_input)
    if config.small_input:
        raise ConfigError(
            f'model.small_input is for torchvision models only: remove it for "{config.name}"'
        )
    return own or timm_nets.find(config.name)


def checked_options(config: ModelConfig, net: Net) -> dict[str, Any]:
    """The options of a configuration, each converted to its type.

    Args:
        config: Its name and options are read.
        net: The builder of that name; see `find`.

    Returns:
        Keyword arguments for net.build.

    Raises:
        ConfigError: An option does not exist, has a wrong type or is missing.
    """
    options = converted(config.options, net.options, config.name, "model.options")
    try:
        inspect.signature(net.build).bind(num_classes=0, image_size=0, **options)
    except TypeError as error:
        raise ConfigError(f'model.options of "{config.name}": {error}') from None
    return options


def own_input(config: ModelConfig) -> InputSpec | None:
    """The images that the weights of a configuration's net were trained for.

    Args:
        config: Its name and weights are read.

    Returns:
        The settings of torchvision or timm; None for other nets.

    Raises:
        ConfigError: There is no such net.
    """
    known = find(config).input
    return known(config.weights) if known else None


def fetch_weights(config: ModelConfig) -> None:
    """Download the weights of a library into its cache, where they are not in it.

    Args:
        config: Its name and weights are read. Nothing is done where weights is "none" or a path.

    Raises:
        Unavailable: They are not in the cache, and they cannot be downloaded.
        ConfigError: There is no such net, or it has no such weights.
    """
    if config.weights == "none" or weights.is_path(config.weights):
        return
    net = find(config)
    if net.pretrained is None or net.input is None:
        imagenet.fetch_imagenet(config.weights, config.name)
    else:
        net.pretrained(None, image_size=net.input(config.weights).image_size)


def build(
    config: ModelConfig,
    *,
    num_classes: int,
    image_size: int,
    on_load: Callable[[weights.LoadReport], object] | None = None,
) -> nn.Module:
    """Build the net of a configuration, on the CPU in float32, in training mode.

    Args:
        config: Which net, with which weights, head and frozen layers.
        num_classes: The number of logits.
        image_size: The side of the square images, in pixels.
        on_load: Called with the report of the loaded weights, unless config.weights is "none".
            Default: the report is logged.

    Returns:
        A module from images, float [N, 3, image_size, image_size], to logits [N, num_classes].

    Raises:
        ConfigError: An unknown net, option or layer, an image size that the net cannot take, or
            weights that cannot be read or do not fit.
    """
    net = find(config)
    options = checked_options(config, net)

    def make(size: int) -> nn.Module:
        model = net.build(num_classes=num_classes, image_size=size, **options)
        if config.head == "mlp":
            heads.replace_head(model, "mlp", num_classes)
        return model

    model = probe.build_for_size(make, config, num_classes, image_size)
    if config.weights != "none":
        pretrained = net.pretrained and partial(net.pretrained, image_size=image_size, **options)
        report = weights.load_weights(model, config.weights, config.name, pretrained)
        (on_load or weights.log_report)(report)
    freeze.apply(model, freeze=config.freeze, train_layers=config.train_layers)
    freeze.set_train_mode(model, config.frozen_norm)
    return model
