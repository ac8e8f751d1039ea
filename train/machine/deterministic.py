"""Which operators of a net have no deterministic form on NVIDIA GPUs.

In: a net, the side of its images. Out: names of operators; found by one step on the meta device,
where nothing is computed. torch itself would raise for them in the middle of the first step.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from slipform.pipelines.errors import ConfigError

# torch.use_deterministic_algorithms names these, as far as a net for images can have them.
REFUSED = frozenset(
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
    """Operators of a training step that have no deterministic form on GPUs, sorted.

    Args:
        model: A net from images [N, 3, S, S] to logits, on any device; it is not changed.
        image_size: S, in pixels.

    Returns:
        Names of operators, such as "upsample_bilinear2d_backward".
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
    return sorted(names.found & REFUSED)


def check_deterministic(model: nn.Module, image_size: int) -> None:
    """Check that a net can be trained deterministically on a GPU.

    Args:
        model: The net, on any device; it is not changed.
        image_size: The side of the images, in pixels.

    Raises:
        ConfigError: It has operators without a deterministic form.
    """
    if refused := refused_operators(model, image_size):
        raise ConfigError(
            "train.deterministic = true: this net has operators without a deterministic form on"
            f" GPUs: {', '.join(refused)}. Set train.deterministic = false, or take another net or"
            f" image size than {image_size}: AlexNet and VGG have none at 224 px."
        )
