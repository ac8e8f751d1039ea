"""The operators of a net that have no deterministic implementation on NVIDIA GPUs.

In: a net, the side of its images. Out: names of operators, found by a step on torch's meta device,
which computes nothing. Without this check, torch raises for them during the first step.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from slipform.pipelines.errors import ConfigError

__all__ = ["check_deterministic", "refused_operators"]

# The documentation of torch.use_deterministic_algorithms lists these. Operators that a net for
# images cannot have are left out.
_REFUSED = frozenset(
    {
        "_adaptive_avg_pool2d_backward",
        "adaptive_max_pool2d_backward",
        "fractional_max_pool2d_backward",
        "grid_sampler_2d_backward",
        "max_unpool2d",
        "nll_loss2d_forward",
        "reflection_pad1d_backward",
        "replication_pad1d_backward",
        "replication_pad2d_backward",
        "upsample_bicubic2d_backward",
        "upsample_bilinear2d_backward",
        "upsample_linear1d_backward",
        "histc",
        "kthvalue",
        "put_",
    }
)


class _Names(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.found.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def refused_operators(model: nn.Module, image_size: int) -> list[str]:
    """The operators of a training step that have no deterministic implementation on GPUs.

    Args:
        model: A net from images [N, 3, S, S] to logits, on any device; it is not changed.
        image_size: S, in pixels.

    Returns:
        Names of operators, sorted, such as "upsample_bilinear2d_backward".
    """
    state: dict[str, Tensor] = {
        name: torch.empty_like(value, device="meta").requires_grad_(value.requires_grad)
        for name, value in (*model.named_parameters(), *model.named_buffers())
    }
    images = torch.empty(2, 3, image_size, image_size, device="meta")
    with torch.enable_grad(), _Names() as names:
        logits = torch.func.functional_call(model, state, (images,))
        if logits.requires_grad:
            logits.sum().backward()
    return sorted(names.found & _REFUSED)


def check_deterministic(model: nn.Module, image_size: int) -> None:
    """Check that the training of a net can be deterministic on a GPU.

    Args:
        model: The net, on any device; it is not changed.
        image_size: The side of the images, in pixels.

    Raises:
        ConfigError: The net has operators without a deterministic implementation.
    """
    if refused := refused_operators(model, image_size):
        raise ConfigError(
            "train.deterministic = true: this net has operators without a deterministic"
            f" implementation on GPUs: {', '.join(refused)}. Set train.deterministic = false, or"
            f" choose another net or another image size than {image_size}: AlexNet and VGG have no"
            " such operators at 224 px."
        )
