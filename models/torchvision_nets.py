"""torchvision's classification models: builders by name, some with a stem for small images.

In: a name of torchvision.models. Out: a builder as `slipform.models.spec.net` describes it: images
[N, 3, S, S] -> logits [N, classes]. torchvision's documentation gives the papers of the nets:
https://docs.pytorch.org/vision/stable/models.html
"""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any, Literal

from torch import Tensor, nn

from slipform.models.heads import limit_head
from slipform.models.spec import InputSpec, Net
from slipform.pipelines.errors import ConfigError

__all__ = ["SMALL_INPUT", "describe", "find", "names"]

# The names that begin with one of these have a stem for small images.
SMALL_INPUT = ("resnet", "resnext", "wide_resnet", "alexnet", "vgg")
_OPTIONS = {
    "dropout": float,
    "attention_dropout": float,
    "drop_rate": float,
    "zero_init_residual": bool,
}
_SmallStem = Literal["convolution", "pool"]


@cache
def names() -> tuple[str, ...]:
    """The names of torchvision's classification models."""
    import torchvision  # It takes seconds, and our own nets do not need it.

    return tuple(torchvision.models.list_models(module=torchvision.models))


def describe(name: str) -> str:
    """A model's size and its ImageNet weights, as torchvision states them.

    Args:
        name: One of `names()`.
    """
    import torchvision

    weights = list(torchvision.models.get_model_weights(name))
    if not weights:
        return "torchvision"
    millions = weights[0].meta["num_params"] / 1e6
    return f"torchvision, {millions:.1f} million parameters; {', '.join(w.name for w in weights)}"


def find(name: str, *, small_input: bool) -> Net:
    """The builder of a torchvision model.

    Args:
        name: One of `names()`.
        small_input: Give it a stem for images of about 32 px.

    Returns:
        The builder. Its options are those of dropout, attention_dropout, drop_rate and
        zero_init_residual that the model's class takes. AlexNet with small_input also has
        small_stem: "convolution" or "pool".

    Raises:
        ConfigError: small_input is True, and the model has no such stem.
    """
    if small_input and not name.startswith(SMALL_INPUT):
        allowed = ", ".join(f"{prefix}*" for prefix in SMALL_INPUT)
        raise ConfigError(
            f'"{name}" has no stem for small images: remove model.small_input, or choose one of'
            f" {allowed}"
        )
    import torchvision

    function = torchvision.models.get_model_builder(name)
    # The builders take **kwargs. The class in their return annotation says which ones.
    model_class = inspect.signature(function, eval_str=True).return_annotation
    settings = inspect.signature(model_class).parameters

    def build(
        *,
        num_classes: int,
        image_size: int,
        small_stem: _SmallStem = "convolution",
        **options: Any,
    ) -> nn.Module:
        # aux_logits: googlenet and inception_v3 get no auxiliary heads, so every net has one
        # output. transform_input: their ImageNet weights need it; it is always on, so that weights
        # of one run fit another.
        derived = {
            "image_size": image_size,
            "input_size": (image_size, image_size),
            "aux_logits": False,
            "transform_input": True,
            "init_weights": True,
        }
        given = {key: value for key, value in derived.items() if key in settings}
        model: nn.Module = function(weights=None, num_classes=num_classes, **given, **options)
        if small_input:
            _shrink_stem(model, small_stem)
        elif isinstance(model, (torchvision.models.AlexNet, torchvision.models.VGG)):
            model.avgpool = _AveragePool(model.avgpool.output_size)
        limit_head(model)
        return model

    kinds: dict[str, Any] = {key: kind for key, kind in _OPTIONS.items() if key in settings}
    if small_input and name == "alexnet":
        kinds["small_stem"] = _SmallStem
    return Net(build, kinds, lambda weights: _input(name, weights))


def _input(name: str, weights: str) -> InputSpec:
    """The images of an entry of torchvision's weights; of the default one for any other word."""
    import torchvision

    entries: Any = torchvision.models.get_model_weights(name)
    found = entries.__members__.get(weights, entries.DEFAULT).transforms()
    return InputSpec(
        image_size=found.crop_size[0],
        crop_share=found.crop_size[0] / found.resize_size[0],
        mean=tuple(found.mean),
        std=tuple(found.std),
        interpolation=found.interpolation.value,
    )


class _AveragePool(nn.AdaptiveAvgPool2d):
    """nn.AdaptiveAvgPool2d that returns its input where that has the output's size already.

    This is so for AlexNet and VGG at 224 px. The gradient of nn.AdaptiveAvgPool2d is not
    deterministic on GPUs.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-2:] == self.output_size:
            return x
        return super().forward(x)


def _shrink_stem(model: nn.Module, small_stem: _SmallStem = "convolution") -> None:
    """Change a ResNet, AlexNet or VGG of torchvision in place for images of about 32 px.

    ResNet: the first convolution is 3x3 with stride 1, and there is no max pool (He et al., 2016,
    section 4.2).

    AlexNet: all weights keep their shapes. small_stem "convolution": the first convolution has
    stride 1 and "same" padding, not stride 4; the three max pools reduce 32x32 to 3x3. "pool": the
    first max pool has stride 1 and padding 1; it keeps the 7x7 of the convolution, and the other
    two reduce them to 1x1.

    VGG: the classifier gets the last feature map, 1x1 at 32 px, as it is. torchvision repeats it
    7x7 times. The first linear layer has 512 inputs, not 25,088.
    """
    import torchvision

    if isinstance(model, torchvision.models.ResNet):
        old = model.conv1
        model.conv1 = nn.Conv2d(
            old.in_channels, old.out_channels, 3, stride=1, padding=1, bias=False
        )
        nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
        model.maxpool = nn.Identity()
    elif isinstance(model, torchvision.models.AlexNet):
        if small_stem == "pool":
            model.features[2] = nn.MaxPool2d(3, stride=1, padding=1)
        else:
            model.features[0].stride = (1, 1)
            model.features[0].padding = (5, 5)
    else:
        assert isinstance(model, torchvision.models.VGG)
        model.avgpool = nn.AdaptiveAvgPool2d(1)
        linear = nn.Linear(512, model.classifier[0].out_features)
        nn.init.normal_(linear.weight, 0, 0.01)
        nn.init.zeros_(linear.bias)
        model.classifier[0] = linear
