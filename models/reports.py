"""Nets of two course reports, from images [N, 3, S, S] to logits [N, num_classes].

Report D, on CIFAR-100: `conv` and `mlp_sigmoid`. Report E, on MNIST and CIFAR-10: `cnn`,
`conv_blocks`, `fc` and `fc10`. Some widths are not in the reports; the docstrings of those nets say
so. Each net has the parts `features` and `classifier`. The image size sets the number of inputs of
the classifier. MNIST is stored as RGB with three equal channels. `gray` makes a net use the first
channel only: a fully connected net has 784 inputs at 28 px, and 2,352 without `gray`.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from slipform.models.probe import output_shape
from slipform.models.spec import net

__all__ = ["TestDropout", "cnn", "conv", "conv_blocks", "fc", "fc10", "mlp_sigmoid"]

_FC_WIDTHS = {"normal": (256, 128), "larger": (1024, 512)}


class _FirstChannel(nn.Module):
    """The first channel of images: [N, C, S, S] -> [N, 1, S, S]."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :1]


class TestDropout(nn.Dropout):
    """Dropout that stays active in evaluation.

    Code for PyTorch 1.0 has this behavior where it calls functional dropout without its training
    flag. Evaluation draws random numbers, so two evaluations differ.
    """

    __test__ = False  # pytest must not collect it

    def forward(self, x: Tensor) -> Tensor:
        """See `nn.Module`."""
        return functional.dropout(x, self.p, training=True)


def _with_classifier(
    features: nn.Sequential, *classifier: nn.Module, gray: bool = False
) -> nn.Module:
    """features, flatten and classifier as one net; gray: on the first channel only."""
    parts = OrderedDict[str, nn.Module](channel=_FirstChannel()) if gray else OrderedDict()
    return nn.Sequential(
        parts
        | OrderedDict(
            features=features, flatten=nn.Flatten(), classifier=nn.Sequential(*classifier)
        )
    )


def _num_features(features: nn.Module, image_size: int, channels: int = 3) -> int:
    """The number of outputs of `features` for one image. RuntimeError: the image is too small."""
    return output_shape(features, 1, channels, image_size, image_size).numel()


def _mlp(
    widths: Sequence[int],
    num_classes: int,
    activation: Callable[[], nn.Module],
    *,
    norm: bool = False,
    gray: bool = False,
) -> nn.Module:
    """Linear layers with `activation` between them. widths[0] is the number of inputs.

    norm: BatchNorm after each hidden layer. gray: the first channel is the input.
    """
    features: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        features += [
            nn.Linear(before, after),
            *([nn.BatchNorm1d(after)] if norm else []),
            activation(),
        ]
    classifier = nn.Linear(widths[-1], num_classes)
    parts = OrderedDict[str, nn.Module](channel=_FirstChannel()) if gray else OrderedDict()
    return nn.Sequential(
        parts
        | OrderedDict(
            flatten=nn.Flatten(), features=nn.Sequential(*features), classifier=classifier
        )
    )


@net
def conv(
    *,
    num_classes: int,
    image_size: int,
    width: int = 128,
    final_width: int = 256,
    hidden: int = 4096,
    batch_norm: bool = False,
    dropout: float = 0.0,
    test_dropout: bool = False,
) -> nn.Module:
    """Four convolutions with ReLU, a 2x2 max pool, two linear layers (report D).

    The convolutions are 5x5 with stride 2, then three of 3x3. There is no padding: the sides are
    14, 12, 10, 8 and, after the pool, 4 for images of 32 px.

    Args:
        num_classes: The number of logits.
        image_size: The side of the images, in pixels.
        width: Channels of the first three convolutions.
        final_width: Channels of the last convolution.
        hidden: Units of the hidden linear layer.
        batch_norm: BatchNorm after each convolution.
        dropout: Probability of dropout on the hidden layer.
        test_dropout: The dropout stays active in evaluation.
    """
    layers: list[nn.Module] = []
    before = 3
    for after, kernel_size, stride in (
        (width, 5, 2),
        (width, 3, 1),
        (width, 3, 1),
        (final_width, 3, 1),
    ):
        layers += [
            nn.Conv2d(before, after, kernel_size, stride),
            *([nn.BatchNorm2d(after)] if batch_norm else []),
            nn.ReLU(),
        ]
        before = after
    features = nn.Sequential(*layers, nn.MaxPool2d(2))
    first = nn.Linear(_num_features(features, image_size), hidden)
    drop = TestDropout(dropout) if test_dropout else nn.Dropout(dropout)
    return _with_classifier(features, first, nn.ReLU(), drop, nn.Linear(hidden, num_classes))


@net
def cnn(
    *,
    num_classes: int,
    image_size: int,
    kernel_sizes: tuple[int, int] = (3, 3),
    pool: Literal["max", "avg", "stride"] = "max",
    dilation: int = 1,
    pools: Literal["each", "last"] = "each",
    widths: tuple[int, int, int, int] = (6, 16, 120, 84),
    gray: bool = False,
) -> nn.Module:
    """Two convolutions and three linear layers with ReLU between them, and 2x2 pools.

    There is no padding.

    Args:
        num_classes: The number of logits.
        image_size: The side of the images, in pixels.
        kernel_sizes: Sides of the two convolutions' kernels, in pixels.
        pool: "max" or "avg" pools; "stride": no pools, but convolutions with stride 2.
        dilation: Dilation of both convolutions.
        pools: A pool after "each" convolution, or after the "last" only.
        widths: Channels of the convolutions, units of the hidden linear layers. The report does
            not give them. The default is LeNet-5's (LeCun et al., 1998).
        gray: The first channel is the input.
    """
    kinds = {"max": nn.MaxPool2d, "avg": nn.AvgPool2d, "stride": nn.Identity}
    first_width, last_width, *hidden = widths
    channels = 1 if gray else 3
    layers: list[nn.Module] = []
    for before, after, kernel_size, is_last in zip(
        (channels, first_width), (first_width, last_width), kernel_sizes, (False, True), strict=True
    ):
        pooled = pools == "each" or is_last
        stride = 2 if pooled and pool == "stride" else 1
        layers += [
            nn.Conv2d(before, after, kernel_size, stride, dilation=dilation),
            nn.ReLU(),
            kinds[pool](2) if pooled else nn.Identity(),
        ]
    features = nn.Sequential(*layers)
    first = nn.Linear(_num_features(features, image_size, channels), hidden[0])
    return _with_classifier(
        features,
        first,
        nn.ReLU(),
        nn.Linear(hidden[0], hidden[1]),
        nn.ReLU(),
        nn.Linear(hidden[1], num_classes),
        gray=gray,
    )


@net
def conv_blocks(
    *,
    num_classes: int,
    image_size: int,
    widths: tuple[int, int] = (64, 128),
    hidden: int = 512,
    dropout: float = 0.25,
    norms: Literal[1, 2] = 2,
) -> nn.Module:
    """Two blocks of convolutions, BatchNorm, max pool and dropout, two linear layers.

    A block has two 3x3 convolutions with padding and ReLU. Only the pools reduce the size. The
    report does not give the widths. The net has 4 million parameters at 32 px and 206 million at
    224 px.

    Args:
        num_classes: The number of logits.
        image_size: The side of the images, in pixels.
        widths: Channels of the two blocks.
        hidden: Units of the hidden linear layer.
        dropout: Probability of dropout, after each block and on the hidden layer.
        norms: 1: BatchNorm after the second convolution of a block only, as in the report. 2:
            after both.
    """
    layers: list[nn.Module] = []
    before = 3
    for width in widths:
        for number in (1, 2):
            norm = norms == 2 or number == 2
            layers += [
                nn.Conv2d(before, width, 3, padding=1, bias=not norm),
                *([nn.BatchNorm2d(width)] if norm else []),
                nn.ReLU(),
            ]
            before = width
        layers += [nn.MaxPool2d(2), nn.Dropout(dropout)]
    features = nn.Sequential(*layers)
    first = nn.Linear(_num_features(features, image_size), hidden)
    return _with_classifier(
        features, first, nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, num_classes)
    )


@net
def mlp_sigmoid(*, num_classes: int, image_size: int, hidden: int = 4096) -> nn.Module:
    """Three linear layers with sigmoids between them (report D: 3072 - 4096 - 4096 - 100).

    Args:
        num_classes: The number of logits.
        image_size: The side of the images, in pixels.
        hidden: Units of each hidden layer.
    """
    return _mlp((3 * image_size**2, hidden, hidden), num_classes, nn.Sigmoid)


@net
def fc(
    *,
    num_classes: int,
    image_size: int,
    norm: bool = False,
    size: Literal["normal", "larger"] = "normal",
    depth: Literal["normal", "deeper"] = "normal",
    gray: bool = False,
) -> nn.Module:
    """Three linear layers with ReLU between them.

    Args:
        num_classes: The number of logits.
        image_size: The side of the images, in pixels.
        norm: BatchNorm after each hidden layer.
        size: Units of the hidden layers: "normal" is 256 and 128, "larger" is 1024 and 512.
        depth: "deeper": each hidden layer becomes two layers of half its width, so the net has
            five layers and as many units.
        gray: The first channel is the input.
    """
    hidden: tuple[int, ...] = _FC_WIDTHS[size]
    if depth == "deeper":
        hidden = tuple(width // 2 for width in hidden for _ in range(2))
    inputs = (1 if gray else 3) * image_size**2
    return _mlp((inputs, *hidden), num_classes, nn.ReLU, norm=norm, gray=gray)


@net
def fc10(*, num_classes: int, image_size: int, width: int = 512) -> nn.Module:
    """Ten linear layers with BatchNorm and ReLU between them.

    Args:
        num_classes: The number of logits.
        image_size: The side of the images, in pixels.
        width: Units of each hidden layer.
    """
    return _mlp((3 * image_size**2, *[width] * 9), num_classes, nn.ReLU, norm=True)
