"""Nets of two course reports, from images [N, 3, S, S] to logits [N, num_classes].

Report D, on CIFAR-100: `conv` and `mlp_sigmoid`. Report E, on MNIST and CIFAR-10: `cnn`,
`conv_blocks`, `fc` and `fc10`. Where a report prints no widths, the widths here are choices, said
at the net. Each net has the parts `features` and `classifier`; the classifier's inputs follow from
the image size. MNIST is stored as RGB with three equal channels: with `gray` a net takes the first
of them, so that a fully connected net has 784 inputs at 28 px, and 2,352 without.
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

FC_WIDTHS = {"normal": (256, 128), "larger": (1024, 512)}


class FirstChannel(nn.Module):
    """Images [N, C, S, S] -> [N, 1, S, S]: their first channel."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :1]


class TestDropout(nn.Dropout):
    """Dropout that stays active in evaluation, as functional dropout without its training flag in
    PyTorch 1.0. Evaluation draws random numbers, so two of them differ."""

    __test__ = False  # no test, whatever pytest makes of the name

    def forward(self, x: Tensor) -> Tensor:
        return functional.dropout(x, self.p, training=True)


def _with_classifier(
    features: nn.Sequential, *classifier: nn.Module, gray: bool = False
) -> nn.Module:
    """features, flatten, classifier as one net; gray: on the first channel."""
    parts = OrderedDict[str, nn.Module](channel=FirstChannel()) if gray else OrderedDict()
    return nn.Sequential(
        parts
        | OrderedDict(
            features=features, flatten=nn.Flatten(), classifier=nn.Sequential(*classifier)
        )
    )


def _num_features(features: nn.Module, image_size: int, channels: int = 3) -> int:
    """How many numbers `features` makes of one image. Raises RuntimeError where the image is too
    small."""
    return output_shape(features, 1, channels, image_size, image_size).numel()


def _mlp(
    widths: Sequence[int],
    num_classes: int,
    activation: Callable[[], nn.Module],
    *,
    norm: bool = False,
    gray: bool = False,
) -> nn.Module:
    """Flatten, then linear layers of the given widths, the first being the number of inputs, with
    `activation` between; gray: on the first channel."""
    features: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        features += [
            nn.Linear(before, after),
            *([nn.BatchNorm1d(after)] if norm else []),
            activation(),
        ]
    classifier = nn.Linear(widths[-1], num_classes)
    parts = OrderedDict[str, nn.Module](channel=FirstChannel()) if gray else OrderedDict()
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
    """Report D's net: 5x5 of stride 2, two 3x3, a final 3x3, ReLU after each, one 2x2 max pool, two
    linear layers.

    No padding: 32 px become 14, 12, 10, 8 and, pooled, 4. batch_norm: after each convolution.
    dropout: on the hidden layer; test_dropout: it stays active in evaluation.
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
    """Report E's net: two convolutions and three linear layers, with ReLU between and 2x2 pools.

    widths: of the convolutions and of the hidden linear layers. The report prints none; the default
    is LeNet-5's (LeCun et al., 1998). pools: after each convolution, or after the last only. pool
    "stride": no pool, the convolution before it has stride 2. dilation: of both convolutions. gray:
    one input channel. No padding.
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
    """Report E's own net: two blocks of two 3x3 convolutions, batch norm, max pool and dropout,
    then two linear layers. It has 4 million parameters at 32 px and 206 million at 224 px.

    The report prints no widths. Padding keeps the size, so that the pools alone halve it; ReLU
    follows each convolution; the dropout is the same after each block and on the hidden layer.
    norms: batch norm after the second convolution of a block (1), as the report has it, or after
    each (2).
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
    """Inputs - hidden - hidden - classes with sigmoids between (report D: 3072 - 4096 - 4096 -
    100)."""
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
    """Three linear layers with ReLU between (report E).

    norm: batch norm after each hidden layer. size: 256 and 128 hidden neurons, or 1024 and 512.
    depth "deeper": each hidden layer becomes two of half its width, so the same neurons over five
    layers. gray: one input channel.
    """
    hidden: tuple[int, ...] = FC_WIDTHS[size]
    if depth == "deeper":
        hidden = tuple(width // 2 for width in hidden for _ in range(2))
    inputs = (1 if gray else 3) * image_size**2
    return _mlp((inputs, *hidden), num_classes, nn.ReLU, norm=norm, gray=gray)


@net
def fc10(*, num_classes: int, image_size: int, width: int = 512) -> nn.Module:
    """Ten linear layers with batch norm and ReLU between (report E)."""
    return _mlp((3 * image_size**2, *[width] * 9), num_classes, nn.ReLU, norm=True)
