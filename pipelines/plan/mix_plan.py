"""The numbers of MixUp and CutMix: `draw_mix` turns an Augmentation into a `MixPlan` of a batch.

In: a spec, the number of the batch, seed and epoch. Out: a MixPlan. Partly compiled by numba.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from slipform.pipelines.kernel import kernel
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.plan.philox import batch_uniforms

__all__ = ["MixPlan", "draw_mix", "partners_of"]

_DRAWS = 5  # uniform numbers for each row of a MixPlan


@dataclass(frozen=True)
class MixPlan:
    """MixUp or CutMix of a batch of N images. It has one row (mix_mode = "batch") or N rows.

    MixUp: image i becomes weight * image i + (1 - weight) * image partner[i]. CutMix: image i takes
    the pixels of `box` from image partner[i]. An image that is not mixed has weight 1 and an empty
    box.

    Attributes:
        partner: int64 [N], positions in the batch.
        weight: float64 [1 or N], the share of image i, in 0..1. With CutMix, the share of pixels
            outside the box.
        box: int64 [1 or N, 4], CutMix: (x0, y0, x1, y1) in output pixels. Else zeros.
    """

    partner: npt.NDArray[np.int64]
    weight: npt.NDArray[np.float64]
    box: npt.NDArray[np.int64]


def partners_of(mode: str, batch_size: int) -> npt.NDArray[np.int64]:
    """The partner of each image: its neighbor, as the order is random already.

    Args:
        mode: `augment.mix_mode`.
        batch_size: Number of samples N.

    Returns:
        int64 [N], positions in the batch. "pair": 1, 0, 3, 2, ...; the last image of an odd number
        is its own partner. Else: i - 1, as in torchvision.
    """
    at = np.arange(batch_size)
    return np.minimum(at ^ 1, batch_size - 1) if mode == "pair" else np.roll(at, 1)


def draw_mix(
    spec: Augmentation, batch_size: int, seed: int, epoch: int, batch: int
) -> MixPlan | None:
    """Draw MixUp (Zhang et al., ICLR 2018) or CutMix (Yun et al., ICCV 2019) for a batch.

    The weights are drawn from Beta(alpha, alpha) by numpy's generator, which is seeded from Philox.

    Args:
        spec: The augmentation. With both, CutMix is taken with `switch_probability`. With
            1 - `mix_probability` nothing is mixed. `mix_mode` says what draws these numbers: the
            batch, each pair of images, or each image.
        batch_size: Number of samples N.
        seed: The seed.
        epoch: The epoch, from 0.
        batch: Number of the batch in the epoch.

    Returns:
        The MixPlan, also if the batch is not mixed, so that all batches have the same form. None:
        the augmentation has neither.
    """
    if not (spec.mixup or spec.cutmix):
        return None
    rows = {"batch": 1, "pair": (batch_size + 1) // 2, "elem": batch_size}[spec.mix_mode]
    u = batch_uniforms(seed, epoch, batch, _DRAWS * rows).reshape(rows, _DRAWS)
    share = spec.switch_probability if spec.mixup and spec.cutmix else float(spec.cutmix > 0)
    cut = u[:, 0] < share
    alpha = np.where(cut, spec.cutmix, spec.mixup)
    generator = np.random.Generator(np.random.Philox(key=int(u[0, 1] * 2**53)))
    weight = generator.beta(alpha, alpha)

    box = np.zeros((rows, 4), np.int64)
    _apply(u, cut, spec.mix_probability, spec.image_size, weight, box)
    if spec.mix_mode == "pair":
        weight, box = weight.repeat(2)[:batch_size], box.repeat(2, axis=0)[:batch_size]
    return MixPlan(partners_of(spec.mix_mode, batch_size), weight, box)


@kernel
def _apply(u, cut, probability, size, weight, box):
    """Set the weights of what is not mixed or cut, and the boxes.

    Args:
        u: float64 [rows, 5], uniform numbers.
        cut: bool [rows], whether CutMix is taken.
        probability: What is mixed.
        size: Side of the images.
        weight: float64 [rows], in: drawn weights. Out: those of the MixPlan.
        box: int64 [rows, 4], zeros, filled here.
    """
    for i in range(len(weight)):
        if u[i, 4] >= probability:
            weight[i] = 1.0
        elif cut[i]:
            half = 0.5 * size * np.sqrt(1.0 - weight[i])
            for k in range(4):
                edge = u[i, 2 + k % 2] * size + (half if k > 1 else -half)
                box[i, k] = int(min(max(edge, 0.0), size))
            area = (box[i, 2] - box[i, 0]) * (box[i, 3] - box[i, 1])
            weight[i] = 1.0 - area / size**2
