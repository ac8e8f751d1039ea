"""Fully connected nets, from images [N, 3, S, S] to logits [N, num_classes].

`mlp_sigmoid` is a net of a course report on CIFAR-100, `fc` and `fc10` of one on MNIST and
CIFAR-10. The widths of the last two were not printed; the ones here are choices. MNIST is stored as
RGB, so 28 px give 2,352 inputs and not 784.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Literal

from torch import nn

from slipform.models.registry import net

FC_WIDTHS = {"normal": (256, 128), "larger": (1024, 512)}


def _mlp(
    widths: Sequence[int],
    num_classes: int,
    activation: Callable[[], nn.Module],
    *,
    norm: bool = False,
) -> nn.Module:
    """Flatten, then linear layers of the given widths, the first being the number of inputs, with
    `activation` between."""
    features: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        features += [
            nn.Linear(before, after),
            *([nn.BatchNorm1d(after)] if norm else []),
            activation(),
        ]
    classifier = nn.Linear(widths[-1], num_classes)
    return nn.Sequential(
        OrderedDict(flatten=nn.Flatten(), features=nn.Sequential(*features), classifier=classifier)
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
) -> nn.Module:
    """Three linear layers with ReLU between (report E).

    norm: batch norm after each hidden layer. size: 256 and 128 hidden neurons, or 1024 and 512.
    depth "deeper": each hidden layer becomes two of half its width, so the same neurons over five
    layers.
    """
    hidden: tuple[int, ...] = FC_WIDTHS[size]
    if depth == "deeper":
        hidden = tuple(width // 2 for width in hidden for _ in range(2))
    return _mlp((3 * image_size**2, *hidden), num_classes, nn.ReLU, norm=norm)


@net
def fc10(*, num_classes: int, image_size: int, width: int = 512) -> nn.Module:
    """Ten linear layers with batch norm and ReLU between (report E)."""
    return _mlp((3 * image_size**2, *[width] * 9), num_classes, nn.ReLU, norm=True)
