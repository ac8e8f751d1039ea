"""Small convolutional nets, all from images [N, 3, S, S] to logits [N, num_classes].

`tiny` is ours: about 100,000 parameters, for tests and the demo. `conv`, `cnn` and `custom` are nets of course reports on
CIFAR-100, MNIST and CIFAR-10; what a report left open is a choice, said at the net.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict

from torch import nn

from models.registry import net


@net
def tiny(*, num_classes: int, image_size: int, width: int = 16) -> nn.Module:
    """Four 3x3 convolutions of stride 2, batch norm and ReLU after each, then the average over all places and a linear layer.

    98,000 parameters and 4 million multiplications for an image of 64 px.
    """
    channels = (3, width, 2 * width, 4 * width, 8 * width)
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(channels):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(
        OrderedDict(
            features=nn.Sequential(*layers),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            classifier=nn.Linear(channels[-1], num_classes),
        )
    )
