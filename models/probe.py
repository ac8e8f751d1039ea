"""Output shapes, found on torch's meta device without arithmetic, and the image sizes of a net.

In: a module, or a function that builds one for an image size. Out: an output shape, or the net
after a check of its image size.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from slipform.models.spec import ModelConfig
from slipform.models.torchvision_nets import SMALL_INPUT
from slipform.pipelines.errors import ConfigError, SlipformError
from slipform.pipelines.toml_text import shown

__all__ = ["build_for_size", "check_batch_of_one", "check_size", "output_shape"]

_COMMON_SIZES = (28, 32, 48, 64, 96, 128, 160, 192, 224, 256, 299, 384, 448, 512)
# torch and torchvision raise these where an image is too small for a kernel, or no multiple of the
# patch size.
_DOES_NOT_FIT = (RuntimeError, AssertionError, ValueError)
# They also raise these for options such as width = 0. Without options they are errors of the code.
_WRONG_OPTION = (TypeError, LookupError, ArithmeticError)


@torch.no_grad()
def output_shape(module: nn.Module, *shape: int) -> torch.Size:
    """The shape of module(x). Nothing is computed, and the module does not change.

    Args:
        module: Any module that returns one tensor.
        shape: The shape of x.

    Raises:
        RuntimeError: x does not fit. torchvision's nets also raise AssertionError or ValueError.
        ConfigError: The module returns something else.
    """
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    on_meta = {name: tensor.to("meta") for name, tensor in tensors.items()}
    output = torch.func.functional_call(module, on_meta, (torch.empty(shape, device="meta"),))
    if not isinstance(output, torch.Tensor):
        raise ConfigError(
            f"{type(module).__name__} returns {type(output).__name__}: a net must return one tensor"
        )
    return output.shape


def build_for_size(
    make: Callable[[int], nn.Module], config: ModelConfig, num_classes: int, image_size: int
) -> nn.Module:
    """Build a net for an image size, and check the shape of its output.

    Args:
        make: Builds the net for an image size.
        config: Of the net; read for the error's text.
        num_classes: The number of logits.
        image_size: The side of the images, in pixels.

    Returns:
        make(image_size).

    Raises:
        ConfigError: The net cannot take images of that size; the text lists sizes that it takes.
            Or it can take none, as with a wrong option, or it returns no logits.
    """
    try:
        model = make(image_size)
        shape = output_shape(model, 2, 3, image_size, image_size)
    except SlipformError:
        raise
    except (*_DOES_NOT_FIT, *_WRONG_OPTION) as error:
        is_wrong = isinstance(error, _WRONG_OPTION)
        if is_wrong and not config.options:
            raise
        fitting = () if is_wrong else [size for size in _COMMON_SIZES if _takes(make, size)]
        sizes = ", ".join(map(str, fitting))
        if not sizes:
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise ConfigError(
                f'"{config.name}" cannot be built, or takes images of no usual size: {reason}'
                + (f" (model.options = {shown(config.options)})" if config.options else "")
            ) from error
        stem = config.name.startswith(SMALL_INPUT) and not config.small_input
        raise ConfigError(
            f'"{config.name}" cannot take images of {image_size} px. Sizes that fit: {sizes}.'
            + (" For small images set model.small_input = true." if stem else "")
        ) from error
    if tuple(shape) != (2, num_classes):
        raise ConfigError(
            f'"{config.name}" returns {list(shape)} for 2 images: a net must return logits,'
            f" [2, {num_classes}]"
        )
    return model


def check_size(model: nn.Module, name: str, image_size: int) -> None:
    """Check that a net takes images of another size than that it was built for.

    Args:
        model: The net.
        name: Its name, for the error's text.
        image_size: The side of the images, in pixels.

    Raises:
        ConfigError: The net cannot take images of that size.
    """
    try:
        output_shape(model, 2, 3, image_size, image_size)
    except _DOES_NOT_FIT as error:
        advice = (
            "Take sizes that it can take, or a convolutional net that ends in a global pooling."
        )
        # timm's transformers have the attribute if they have the option.
        dynamic = getattr(model, "dynamic_img_size", None)
        if dynamic is False:
            advice = "Set model.options.dynamic_img_size = true."
        elif dynamic is True:
            advice = (
                "Take multiples of its patch size, or set model.options.dynamic_img_pad = true."
            )
        raise ConfigError(
            f'"{name}" was built for augment.image_size and cannot take images of {image_size} px,'
            f" as train.image_sizes or train.eval_size ask. {advice}"
        ) from error


def check_batch_of_one(model: nn.Module, image_size: int) -> None:
    """Check that a batch of one image gives BatchNorm more than one value for each channel.

    Args:
        model: The net, in the mode in which it is trained.
        image_size: The side of the images, in pixels.

    Raises:
        ConfigError: A BatchNorm layer in training mode gets one value; its variance is 0.
    """
    try:
        output_shape(model, 1, 3, image_size, image_size)
    except ValueError as error:
        raise ConfigError(
            "train.batch_size = 1 is too small for this net: its last feature map is 1 x 1 at"
            f" {image_size} px, so BatchNorm gets one value for each channel. Use"
            " train.batch_size = 2 or more, or a larger augment.image_size."
        ) from error


def _takes(make: Callable[[int], nn.Module], size: int) -> bool:
    try:
        with torch.device("meta"):
            output_shape(make(size), 2, 3, size, size)
    except _DOES_NOT_FIT:
        return False
    return True
