"""`fast`: a small net for speed runs on CIFAR, from images [N, 3, S, S] to logits [N, num_classes].

The net is that of Keller Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", 2024
(https://arxiv.org/abs/2404.00498), implemented from the paper. The whitening layer is from David
Page, "How to Train Your ResNet", 2018, and tysam-code's hlb-CIFAR10, 2023.

- A 2x2 convolution whose weights do not learn. `init_whitening` makes its outputs uncorrelated on
  the training images.
- Three blocks of 3x3 convolutions, GELU and BatchNorm. BatchNorm learns a shift but no scale, and
  updates its running statistics quickly. The first filters of every convolution start as the
  identity. depth = 3 gives each block a third convolution with a residual connection: the paper's
  larger net.
- A max pool over all positions, and a linear layer whose logits are scaled down.

The paper trains it in half precision with channels_last, Nesterov SGD, label smoothing 0.2 and
alternating flips.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import nn

from slipform.models.spec import net
from slipform.pipelines.errors import ConfigError

__all__ = ["EPSILON", "BatchNorm", "FastNet", "fast", "init_whitening", "patch_covariance"]

_KERNEL_SIZE = 2  # of the whitening layer
# The share of its running statistics that BatchNorm keeps in each step. torch's momentum is 1 minus
# this share.
_MOMENTUM = 0.6
_NUM_WHITENING_IMAGES = 5000  # as in the paper; about 4.8 million patches at 32 px
EPSILON = 5e-4  # added to the variances: directions with a smaller variance are noise


class BatchNorm(nn.BatchNorm2d):
    """BatchNorm with a bias that learns and a scale of 1 that does not.

    The scale is a buffer, so that unfreezing does not make it learn.

    Args:
        channels: C of the inputs, [N, C, H, W].
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-12, momentum=1 - _MOMENTUM)
        del self.weight
        self.register_buffer("weight", torch.ones(channels))


class _Whitening(nn.Module):
    """A 2x2 convolution, [N, 3, S, S] -> [N, 24, S-1, S-1].

    Its bias learns. Its weights are a buffer; they are random until `init_whitening` sets them.
    """

    weight: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        num_values = 3 * _KERNEL_SIZE**2
        weight = torch.empty(2 * num_values, 3, _KERNEL_SIZE, _KERNEL_SIZE)
        self.register_buffer("weight", nn.init.kaiming_uniform_(weight, a=5**0.5))
        self.bias = nn.Parameter(torch.zeros(2 * num_values))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return F.conv2d(images, self.weight, self.bias)


class _Block(nn.Module):
    """Convolutions, max pool, BatchNorm, GELU: [N, C_in, S, S] -> [N, C_out, S/2, S/2].

    depth is the number of convolutions: 2 or 3. The third has a residual connection.
    """

    def __init__(self, in_channels: int, out_channels: int, depth: int) -> None:
        super().__init__()
        convolutions = [
            _dirac_conv(in_channels if i == 0 else out_channels, out_channels) for i in range(depth)
        ]
        self.convolutions = nn.ModuleList(convolutions)
        self.norms = nn.ModuleList(BatchNorm(out_channels) for _ in range(depth))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(self.convolutions[0](x), 2)
        x = F.gelu(self.norms[0](x))
        shortcut = x
        for i in range(1, len(self.convolutions)):
            x = self.norms[i](self.convolutions[i](x))
            if i == 2:
                x = x + shortcut
            x = F.gelu(x)
        return x


class _GlobalMaxPool(nn.Module):
    """The maximum over all positions, [N, C, S, S] -> [N, C, 1, 1].

    Its gradient is deterministic on GPUs. The gradient of nn.AdaptiveMaxPool2d is not.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.max_pool2d(x, x.shape[-2:])


class _Scale(nn.Module):
    """Multiplication by a constant."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor


class FastNet(nn.Sequential):
    """The net of the paper: whiten, activation, features, pool, flatten, classifier, scale."""

    def init_from_images(self, images: torch.Tensor) -> None:
        """Set the whitening layer. A new run calls this once, before its first step.

        Args:
            images: Normalized training images, float [N, 3, S, S].
        """
        init_whitening(self, images)


@net
def fast(
    *,
    num_classes: int,
    image_size: int,
    widths: tuple[int, int, int] = (64, 256, 256),
    depth: int = 2,
    scale: float = 1 / 9,
) -> nn.Module:
    """A small net for speed runs on CIFAR (Jordan, 2024), with a whitening layer and three blocks.

    Args:
        num_classes: The number of logits.
        image_size: The side of the images, in pixels; 9 or more.
        widths: Channels of the blocks. (128, 384, 512) with depth = 3 is the paper's larger net.
        depth: Convolutions of a block, 2 or 3.
        scale: Factor of the logits.

    Raises:
        ConfigError: depth is neither 2 nor 3.
    """
    if depth not in (2, 3):
        raise ConfigError(f"model.options.depth = {depth}: give 2 or 3")
    channels = (2 * 3 * _KERNEL_SIZE**2, *widths)
    blocks = [_Block(before, after, depth) for before, after in zip(channels, widths, strict=False)]
    return FastNet(
        OrderedDict(
            whiten=_Whitening(),
            activation=nn.GELU(),
            features=nn.Sequential(*blocks),
            pool=_GlobalMaxPool(),
            flatten=nn.Flatten(),
            classifier=nn.Linear(widths[-1], num_classes, bias=False),
            scale=_Scale(scale),
        )
    )


@torch.no_grad()
def init_whitening(model: nn.Module, images: torch.Tensor) -> None:
    """Set the whitening layer's weights from images.

    The filters are the eigenvectors of the covariance of all 2x2 patches, each divided by its
    standard deviation, and their negatives. The covariance of the first 12 outputs on those patches
    is the identity, up to EPSILON.

    Args:
        model: A `FastNet`; changed in place.
        images: Normalized training images, float [N, 3, S, S], on any device. The first 5,000 are
            used.
    """
    layer = next(module for module in model.modules() if isinstance(module, _Whitening))
    variances, vectors = torch.linalg.eigh(patch_covariance(images[:_NUM_WHITENING_IMAGES]))
    filters = (vectors / torch.sqrt(variances + EPSILON)).T.flip(0)  # the largest variance first
    layer.weight.copy_(torch.cat((filters, -filters)).reshape(layer.weight.shape))


def patch_covariance(images: torch.Tensor) -> torch.Tensor:
    """The covariance of the 2x2 patches of images.

    The mean is subtracted. The published code does not do that: one direction would represent the
    mean brightness alone where the mean of the images is not 0.

    Args:
        images: float [N, 3, S, S].

    Returns:
        float64 [12, 12]; the values of a patch are in the order [3, 2, 2].
    """
    # 500 images at a time: 5,000 images of 32 px, unfolded in float64, take 460 MB.
    num_values = 3 * _KERNEL_SIZE**2
    total = torch.zeros(num_values, dtype=torch.float64, device=images.device)
    squares = torch.zeros(num_values, num_values, dtype=torch.float64, device=images.device)
    count = 0
    for chunk in images.split(500):
        patches = F.unfold(chunk.double(), _KERNEL_SIZE).transpose(1, 2).reshape(-1, num_values)
        total += patches.sum(0)
        squares += patches.T @ patches
        count += len(patches)
    mean = total / count
    return squares / count - torch.outer(mean, mean)


def _dirac_conv(in_channels: int, out_channels: int) -> nn.Conv2d:
    """A 3x3 convolution, same size, no bias. Its first in_channels outputs start as its inputs."""
    convolution = nn.Conv2d(in_channels, out_channels, 3, padding="same", bias=False)
    nn.init.dirac_(convolution.weight[:in_channels].detach())
    return convolution
