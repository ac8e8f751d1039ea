"""The interface of a net: `ModelConfig` (its settings), `Net` (its builder), `net` (a decorator).

In: settings from a recipe, or a function that builds a net. Out: checked settings; the function,
registered under its name. This module imports neither torch nor any other module of this folder:
settings are checked quickly, and every file with nets can import it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from slipform.pipelines.errors import ConfigError, unknown
from slipform.pipelines.options import options_of
from slipform.pipelines.toml_text import shown

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = [
    "HEADS",
    "PRETRAINED",
    "REGISTERED",
    "InputSpec",
    "ModelConfig",
    "Net",
    "net",
    "register_model",
]

HEADS = ("linear", "mlp")
# The words of model.weights for the usual weights of a net of torchvision or timm.
PRETRAINED = ("imagenet", "pretrained")
_FROZEN_NORMS = ("fixed", "batch")
_OLD_NAMES = {"custom": "conv_blocks"}  # old recipes and run folders have these names
_Builder = Callable[..., "nn.Module"]


@dataclass(frozen=True)
class ModelConfig:
    """The [model] section of a recipe.

    Attributes:
        name: A net of torchvision, one of timm as "timm/NAME", or one that `net` registered.
            `registry.names` lists all.
        weights: "none", "pretrained" or "imagenet" (the usual weights of a net of torchvision or
            timm), an entry of torchvision such as "IMAGENET1K_V1", or the path of a file or of a
            run folder. timm's other weights have a tag in the name: "timm/resnet18.a3_in1k".
        head: "linear" (one layer) or "mlp" (512 hidden units, dropout 0.5).
        small_input: Give a ResNet, AlexNet or VGG a stem for images of about 32 px.
        freeze: Layers that do not learn: dotted names, "head", "all_but_head", "none". A list, or
            one string with commas.
        train_layers: The only layers that learn, named as for freeze.
        frozen_norm: What a frozen BatchNorm layer does in training. "fixed": it normalizes by its
            running statistics, which do not change. "batch": it normalizes by the batch and
            updates its running statistics. PyTorch does the latter where only requires_grad is
            set to False.
        options: Keyword arguments of the net's builder, such as width = 32.

    Raises:
        ConfigError: An unknown head or frozen_norm, or both freeze and train_layers.

    Example:
        >>> import slipform as sf
        >>> sf.ModelConfig("tiny", options={"width": 8}).head
        'linear'
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 (pydantic reads it; it is no field)

    name: str = "alexnet"
    weights: str = "none"
    head: str = "linear"
    small_input: bool = False
    freeze: str | tuple[str, ...] = ()
    train_layers: str | tuple[str, ...] = ()
    frozen_norm: str = "fixed"
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for setting in ("name", "head", "frozen_norm"):
            if not isinstance(value := getattr(self, setting), str):
                raise ConfigError(f"model.{setting} = {shown(value)}: give a text")
        object.__setattr__(self, "name", _OLD_NAMES.get(self.name, self.name))
        if self.head not in HEADS:
            raise unknown("model.head", self.head, HEADS)
        if self.frozen_norm not in _FROZEN_NORMS:
            raise unknown("model.frozen_norm", self.frozen_norm, _FROZEN_NORMS)
        if self.freeze and self.train_layers:
            raise ConfigError(
                "model.freeze and model.train_layers cannot be used together: give one of them"
            )


@dataclass(frozen=True)
class InputSpec:
    """The images that the weights of a net were trained for.

    Attributes:
        image_size: The side of the square images, in pixels.
        crop_share: The side of the center crop of evaluation, as a share of the shorter side of the
            resized image.
        mean: The mean per channel (R, G, B), in 0..1.
        std: The standard deviation per channel.
        interpolation: The filter of the resize, such as "bicubic".
        squash: Whether the whole image is resized to a square, without regard to its ratio.
    """

    image_size: int
    crop_share: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str
    squash: bool = False

    def resize(self, image_size: int) -> int:
        """The shorter side before the center crop, in pixels, rounded down as by timm.

        Args:
            image_size: The side of the crop, in pixels.
        """
        return int(image_size / self.crop_share + 1e-6)


@dataclass(frozen=True)
class Net:
    """How a net is built.

    Attributes:
        build: Called as build(num_classes=..., image_size=..., **options). Returns a module from
            images [N, 3, S, S] to logits [N, num_classes].
        options: The name and type of each option.
        input: Called with model.weights. Returns the images that these weights were trained for.
            None: nothing is known.
        pretrained: Called as pretrained(tensors, image_size=..., **options). Returns the name of
            the weights, and the tensors by their names in the net: those of the library's weights
            (tensors = None), or those of a file, converted by the library. Returns None where the
            library cannot convert them. None: the library converts nothing.
    """

    build: _Builder
    options: Mapping[str, Any]
    input: Callable[[str], InputSpec] | None = None
    pretrained: Callable[..., tuple[str, dict[str, Tensor]] | None] | None = None


REGISTERED: dict[str, Net] = {}


def net(builder: _Builder) -> _Builder:
    """Register a function that builds a net, under the function's name. Use it as a decorator.

    A registered net replaces a net of torchvision with the same name.

    Args:
        builder: A function `(*, num_classes: int, image_size: int, **options) -> nn.Module`. Its
            other keyword arguments become the net's options. Values of options are checked against
            their annotations.

    Returns:
        The function itself.

    Raises:
        ConfigError: The function has no parameter num_classes or image_size, its annotations
            cannot be evaluated, or another module has registered a net of that name.

    Example:
        ```python
        from torch import nn

        import slipform as sf

        @sf.register_model
        def mean_color(*, num_classes: int, image_size: int) -> nn.Module:
            return nn.Sequential(nn.AvgPool2d(image_size), nn.Flatten(), nn.Linear(3, num_classes))

        config = sf.RunConfig().replace("model.name", "mean_color")
        ```
    """
    name = builder.__name__
    options = options_of(builder, ("num_classes", "image_size"), f'the builder of net "{name}"')
    before = REGISTERED.get(name)
    if before is not None and before.build.__module__ != builder.__module__:
        raise ConfigError(
            f'{before.build.__module__} has registered a net "{name}" already: use another name'
        )
    REGISTERED[name] = Net(builder, options)
    return builder


register_model = net
