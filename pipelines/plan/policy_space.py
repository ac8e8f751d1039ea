"""The operations of a `Policy` and their magnitudes, as numbers for the kernel that draws them.

In: a Policy, the side of the output. Out: a `Space`. Spaces, magnitudes and the policies of
AutoAugment are those of torchvision.transforms.v2 (tests/pipelines/plan/test_policy.py compares
them).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from slipform.pipelines.plan.operations import OPERATIONS
from slipform.pipelines.plan.policy import Policy

__all__ = ["Space", "space_of"]

_GEOMETRY = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
_ENHANCE = ("Brightness", "Color", "Contrast", "Sharpness")
_SIGNED = (*_GEOMETRY, *_ENHANCE)
_TABLES = ("Posterize", "Solarize", "AutoContrast", "Equalize")
_AUTO_BINS, _AUGMIX_BINS = 10, 10

# The 25 policies of AutoAugment: operation, probability, number of the magnitude; twice.
_POLICIES = {
    "auto_augment_imagenet": """
        Posterize 0.4 8 Rotate 0.6 9, Solarize 0.6 5 AutoContrast 0.6 0,
        Equalize 0.8 0 Equalize 0.6 0, Posterize 0.6 7 Posterize 0.6 6,
        Equalize 0.4 0 Solarize 0.2 4, Equalize 0.4 0 Rotate 0.8 8,
        Solarize 0.6 3 Equalize 0.6 0, Posterize 0.8 5 Equalize 1.0 0,
        Rotate 0.2 3 Solarize 0.6 8, Equalize 0.6 0 Posterize 0.4 6,
        Rotate 0.8 8 Color 0.4 0, Rotate 0.4 9 Equalize 0.6 0,
        Equalize 0.0 0 Equalize 0.8 0, Invert 0.6 0 Equalize 1.0 0,
        Color 0.6 4 Contrast 1.0 8, Rotate 0.8 8 Color 1.0 2,
        Color 0.8 8 Solarize 0.8 7, Sharpness 0.4 7 Invert 0.6 0,
        ShearX 0.6 5 Equalize 1.0 0, Color 0.4 0 Equalize 0.6 0,
        Equalize 0.4 0 Solarize 0.2 4, Solarize 0.6 5 AutoContrast 0.6 0,
        Invert 0.6 0 Equalize 1.0 0, Color 0.6 4 Contrast 1.0 8,
        Equalize 0.8 0 Equalize 0.6 0""",
    "auto_augment_cifar10": """
        Invert 0.1 0 Contrast 0.2 6, Rotate 0.7 2 TranslateX 0.3 9,
        Sharpness 0.8 1 Sharpness 0.9 3, ShearY 0.5 8 TranslateY 0.7 9,
        AutoContrast 0.5 0 Equalize 0.9 0, ShearY 0.2 7 Posterize 0.3 7,
        Color 0.4 3 Brightness 0.6 7, Sharpness 0.3 9 Brightness 0.7 9,
        Equalize 0.6 0 Equalize 0.5 0, Contrast 0.6 7 Sharpness 0.6 5,
        Color 0.7 7 TranslateX 0.5 8, Equalize 0.3 0 AutoContrast 0.4 0,
        TranslateY 0.4 3 Sharpness 0.2 6, Brightness 0.9 6 Color 0.2 8,
        Solarize 0.5 2 Invert 0.0 0, Equalize 0.2 0 AutoContrast 0.6 0,
        Equalize 0.2 0 Equalize 0.6 0, Color 0.9 9 Equalize 0.6 0,
        AutoContrast 0.8 0 Solarize 0.2 8, Brightness 0.1 3 Color 0.7 0,
        Solarize 0.4 5 AutoContrast 0.9 0, TranslateY 0.9 9 TranslateY 0.7 9,
        AutoContrast 0.9 0 Solarize 0.8 3, Equalize 0.8 0 Invert 0.1 0,
        TranslateY 0.7 9 AutoContrast 0.9 0""",
    "auto_augment_svhn": """
        ShearX 0.9 4 Invert 0.2 0, ShearY 0.9 8 Invert 0.7 0,
        Equalize 0.6 0 Solarize 0.6 6, Invert 0.9 0 Equalize 0.6 0,
        Equalize 0.6 0 Rotate 0.9 3, ShearX 0.9 4 AutoContrast 0.8 0,
        ShearY 0.9 8 Invert 0.4 0, ShearY 0.9 5 Solarize 0.2 6,
        Invert 0.9 0 AutoContrast 0.8 0, Equalize 0.6 0 Rotate 0.9 3,
        ShearX 0.9 4 Solarize 0.3 3, ShearY 0.8 8 Invert 0.7 0,
        Equalize 0.9 0 TranslateY 0.6 6, Invert 0.9 0 Equalize 0.6 0,
        Contrast 0.3 3 Rotate 0.8 4, Invert 0.8 0 TranslateY 0.0 2,
        ShearY 0.7 6 Solarize 0.4 8, Invert 0.6 0 Rotate 0.8 4,
        ShearY 0.3 7 TranslateX 0.9 3, ShearX 0.1 6 Invert 0.6 0,
        Solarize 0.7 2 TranslateY 0.6 7, ShearY 0.8 4 Invert 0.8 0,
        ShearX 0.7 9 TranslateY 0.8 3, ShearY 0.8 5 AutoContrast 0.7 0,
        ShearX 0.7 2 Invert 0.1 0""",
}


class Space(NamedTuple):
    """The space from which the operations of a sample are drawn.

    Attributes:
        chains: Number of chains. With `mixed`, one more, the first, is the image itself.
        depth: Largest number of operations of a chain.
        random_depth: Whether a chain has 1, 2 or 3 operations at random.
        mixed: Whether the chains are mixed, with weights from `alpha`.
        alpha: Parameter of the distributions of the weights.
        codes: int64 [M], the operations to choose from.
        amounts: float64 [M, B], their magnitudes.
        signed: bool [M], whether the magnitude is negative half of the time.
        low, high: The magnitude is one of low..high - 1.
        choices: int64 [P, depth, 2], positions in `codes` and magnitudes of P fixed policies, of
            which one is drawn. P = 0: operations are drawn one by one.
        chances: float64 [P, depth], the probability of each of them.
    """

    chains: int
    depth: int
    random_depth: bool
    mixed: bool
    alpha: float
    codes: npt.NDArray[np.int64]
    amounts: npt.NDArray[np.float64]
    signed: npt.NDArray[np.bool_]
    low: int
    high: int
    choices: npt.NDArray[np.int64]
    chances: npt.NDArray[np.float64]


@lru_cache(maxsize=16)
def space_of(policy: Policy, size: int) -> Space:
    """The space of a policy.

    Args:
        policy: A policy other than "none".
        size: Side of the output in pixels, on which the distances of translations depend.
    """
    if policy.name == "augmix":
        names = (*_GEOMETRY, *_TABLES, *(_ENHANCE if policy.all_ops else ()))
        reach, bins = {"TranslateX": size / 3, "TranslateY": size / 3}, _AUGMIX_BINS
        return _space(
            names, bins, reach, (4, 4), low=0, high=policy.severity, mixed=True,
            chains=policy.mixture_width, depth=3 if policy.chain_depth < 0 else policy.chain_depth,
            random_depth=policy.chain_depth < 0, alpha=policy.alpha,
        )  # fmt: skip
    reach = {"TranslateX": 150 / 331 * size, "TranslateY": 150 / 331 * size}
    if policy.name in _POLICIES:
        names = (*_GEOMETRY, *_ENHANCE, *_TABLES, "Invert")
        words = [row.split() for row in _POLICIES[policy.name].split(",")]
        choices = [[(names.index(w[at]), int(w[at + 2])) for at in (0, 3)] for w in words]
        chances = [[float(w[at]) for at in (1, 4)] for w in words]
        space = _space(names, _AUTO_BINS, reach, (8, 4), low=0, high=_AUTO_BINS, depth=2)
        return space._replace(choices=np.array(choices), chances=np.array(chances))
    names, bins = ("Identity", *_GEOMETRY, *_ENHANCE, *_TABLES), policy.num_magnitude_bins
    if policy.name == "rand_augment":
        at, depth = policy.magnitude, policy.num_ops
        return _space(names, bins, reach, (8, 4), low=at, high=at + 1, depth=depth)
    wide = {"ShearX": 0.99, "ShearY": 0.99, "TranslateX": 32.0, "TranslateY": 32.0, "Rotate": 135.0}
    reach = wide | dict.fromkeys(_ENHANCE, 0.99)
    return _space(names, bins, reach, (8, 6), low=0, high=bins, depth=1)


def _space(
    names: tuple[str, ...],
    bins: int,
    reach: dict[str, float],
    bits: tuple[int, int],
    *,
    low: int,
    high: int,
    depth: int,
    chains: int = 1,
    random_depth: bool = False,
    mixed: bool = False,
    alpha: float = 1.0,
) -> Space:
    """A space. reach: the largest magnitudes, where they differ from those of RandAugment. bits: of
    Posterize, at the lowest magnitude, and how many fewer at the highest one."""
    largest = {"ShearX": 0.3, "ShearY": 0.3, "Rotate": 30.0} | dict.fromkeys(_ENHANCE, 0.9) | reach
    # Not the default type and device of the process: a draw depends on nothing but its arguments.
    options: Any = {"dtype": torch.float32, "device": "cpu"}
    amounts = torch.zeros(len(names), bins, **options)
    for row, name in zip(amounts, names, strict=True):
        if name in largest:
            row[:] = torch.linspace(0.0, largest[name], bins, **options)
        elif name == "Posterize":
            row[:] = (bits[0] - torch.arange(bins, **options) / ((bins - 1) / bits[1])).round()
        elif name == "Solarize":
            row[:] = torch.linspace(1.0, 0.0, bins, **options)
    return Space(
        chains=chains,
        depth=depth,
        random_depth=random_depth,
        mixed=mixed,
        alpha=float(alpha),
        codes=np.array([OPERATIONS.index(name) for name in names]),
        amounts=amounts.double().numpy(),
        signed=np.array([name in _SIGNED for name in names]),
        low=low,
        high=high,
        choices=np.zeros((0, depth, 2), np.int64),
        chances=np.zeros((0, depth)),
    )
