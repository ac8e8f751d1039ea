"""Small convolutional nets, from images [N, 3, S, S] to logits [N, num_classes].

`tiny` is ours: about 100,000 parameters, for tests and the demo. `conv` is the net of a course
report on CIFAR-100, `cnn` and `custom` those of one on MNIST and CIFAR-10; what a report left open
is a choice, said at the net. Each has the parts `features` and `classifier`; the classifier's
inputs follow from the image size.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from typing import Literal

from torch import nn

from slipform.models.probe import output_shape
from slipform.models.registry import net


def _with_classifier(features: nn.Sequential, *classifier: nn.Module) -> nn.Module:
    """features, flatten, classifier as one net."""
    return nn.Sequential(
        OrderedDict(features=features, flatten=nn.Flatten(), classifier=nn.Sequential(*classifier))
    )


def _num_features(features: nn.Module, image_size: int) -> int:
    """How many numbers `features` makes of one image. Raises RuntimeError where the image is too
    small."""
    return output_shape(features, 1, 3, image_size, image_size).numel()


@net
def tiny(*, num_classes: int, image_size: int, width: int = 16) -> nn.Module:
    """Four 3x3 convolutions, batch norm and ReLU after each, then the average over all places and a
    linear layer.

    The first has stride 2, a 2x2 max pool follows the second and the third. 98,000 parameters and
    15 million multiplications for an image of 64 px. With stride 2 in place of the pools it took
    0.4 of the time, but reached 0.908 and not 0.973 on ten generated shapes (3,000 images, 5
    epochs, SGD, one-cycle to 0.05).
    """
    channels = (3, width, 2 * width, 4 * width, 8 * width)
    layers: list[nn.Module] = []
    for i, (before, after) in enumerate(itertools.pairwise(channels)):
        stride = 2 if i == 0 else 1
        layers += [
            nn.Conv2d(before, after, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
        ]
        if i in (1, 2):
            layers.append(nn.MaxPool2d(2))
    features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1))
    return _with_classifier(features, nn.Linear(channels[-1], num_classes))


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
) -> nn.Module:
    """Report D's net: 5x5 of stride 2, two 3x3, a final 3x3, ReLU after each, one 2x2 max pool, two
    linear layers.

    No padding: 32 px become 14, 12, 10, 8 and, pooled, 4. batch_norm: after each convolution.
    dropout: on the hidden layer.
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
    return _with_classifier(
        features, first, nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, num_classes)
    )


@net
def cnn(
    *,
    num_classes: int,
    image_size: int,
    kernel_sizes: tuple[int, int] = (3, 3),
    pool: Literal["max", "avg", "stride"] = "max",
    dilation: int = 1,
) -> nn.Module:
    """Report E's net: two convolutions and three linear layers, with ReLU and, after each
    convolution, a 2x2 pool.

    Widths 6, 16, 120, 84 are LeNet-5's (LeCun et al., 1998); the report prints none. No padding.
    pool "stride": no pool, the convolutions have stride 2.
    """
    pools = {"max": nn.MaxPool2d(2), "avg": nn.AvgPool2d(2), "stride": nn.Identity()}
    layers: list[nn.Module] = []
    for before, after, kernel_size in zip((3, 6), (6, 16), kernel_sizes, strict=True):
        stride = 2 if pool == "stride" else 1
        layers += [
            nn.Conv2d(before, after, kernel_size, stride, dilation=dilation),
            nn.ReLU(),
            pools[pool],
        ]
    features = nn.Sequential(*layers)
    first = nn.Linear(_num_features(features, image_size), 120)
    return _with_classifier(
        features, first, nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, num_classes)
    )


@net
def custom(
    *,
    num_classes: int,
    image_size: int,
    widths: tuple[int, int] = (64, 128),
    hidden: int = 512,
    dropout: float = 0.25,
) -> nn.Module:
    """Report E's own net: two blocks of two 3x3 convolutions, batch norm, max pool and dropout,
    then two linear layers.

    The report prints no widths. Padding keeps the size, so that the pools alone halve it; batch
    norm and ReLU follow each convolution; the dropout is the same after each block and on the
    hidden layer.
    """
    layers: list[nn.Module] = []
    before = 3
    for width in widths:
        for _ in range(2):
            layers += [
                nn.Conv2d(before, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
            before = width
        layers += [nn.MaxPool2d(2), nn.Dropout(dropout)]
    features = nn.Sequential(*layers)
    first = nn.Linear(_num_features(features, image_size), hidden)
    return _with_classifier(
        features, first, nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, num_classes)
    )
