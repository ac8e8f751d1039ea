"""torchvision's classification models: builders by name, with a stem for small images where there
is one.

In: a name of torchvision.models. Out: a builder as `slipform.models.spec.net` describes it: images
[N, 3, S, S] -> logits [N, classes]. Sources of the nets: torchvision's documentation,
https://docs.pytorch.org/vision/stable/models.html
"""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any, Literal

from torch import Tensor, nn

from slipform.models.heads import limit_head
from slipform.models.spec import Net
from slipform.pipelines.errors import ConfigError

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
    import torchvision  # seconds, which our own nets need not pay

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
        The builder. Its options are those of _OPTIONS that the model's class has; with small_input
        AlexNet has small_stem too, see `shrink_stem`.

    Raises:
        ConfigError: small_input is asked for and the model has no such stem.
    """
    if small_input and not name.startswith(SMALL_INPUT):
        allowed = ", ".join(f"{prefix}*" for prefix in SMALL_INPUT)
        raise ConfigError(
            f'"{name}" has no stem for small images: leave model.small_input out, or take one of'
            f" {allowed}"
        )
    import torchvision

    function = torchvision.models.get_model_builder(name)
    # The builders take **kwargs; what may be given is known to the class that they are annotated to
    # return.
    model_class = inspect.signature(function, eval_str=True).return_annotation
    settings = inspect.signature(model_class).parameters

    def build(
        *,
        num_classes: int,
        image_size: int,
        small_stem: _SmallStem = "convolution",
        **options: Any,
    ) -> nn.Module:
        # Settings that follow from ours. googlenet and inception_v3: no auxiliary heads, so that
        # every net has one output; transform_input as their ImageNet weights want it, in every
        # case, so that weights move between runs.
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
            shrink_stem(model, small_stem)
        elif isinstance(model, (torchvision.models.AlexNet, torchvision.models.VGG)):
            model.avgpool = AveragePool(model.avgpool.output_size)
        limit_head(model)
        return model

    kinds: dict[str, Any] = {key: kind for key, kind in _OPTIONS.items() if key in settings}
    if small_input and name == "alexnet":
        kinds["small_stem"] = _SmallStem
    return Net(build, kinds)


class AveragePool(nn.AdaptiveAvgPool2d):
    """nn.AdaptiveAvgPool2d, which is left out where nothing is to be averaged, as at the size that
    AlexNet and VGG are made for: its gradient is not deterministic on GPUs."""

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-2:] == self.output_size:
            return x
        return super().forward(x)


def shrink_stem(model: nn.Module, small_stem: _SmallStem = "convolution") -> None:
    """Change a ResNet, AlexNet or VGG in place so that it suits images of about 32 px.

    ResNet: first convolution 3x3, stride 1, no max pool (He et al., 2016, section 4.2). AlexNet,
    whose weights keep their shapes: the first convolution's stride goes from 4 to 1 with "same"
    padding, so that the three max pools leave 3x3; or the first max pool gets stride 1 and padding
    1, so that it keeps the 7x7 that the convolution leaves and the other two make them 1x1. VGG:
    the last feature map, 1x1 at 32 px, goes to the classifier as it is and not repeated 7x7 times:
    the first linear layer has 512 inputs in place of 25,088.

    Args:
        model: A net of torchvision whose name starts with one of SMALL_INPUT.
        small_stem: What changes in AlexNet: "convolution" or "pool", the first of each.
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
