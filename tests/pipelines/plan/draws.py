"""Random numbers that the Plan and torchvision's transforms draw.

In: options of an augmentation, or a transform. Out: arrays of drawn numbers.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import stats
from torchvision.transforms import v2

from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.plan.plan import Plan, draw

NUM = 4000
PLAIN = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def draw_plan(
    n: int = NUM,
    height: int = 120,
    width: int = 200,
    seed: int = 0,
    epoch: int = 0,
    **options: object,
) -> Plan:
    """The Plan of n images of one size; options are those of Augmentation."""
    spec = Augmentation(**{"image_size": 64, "normalize": PLAIN} | options)  # type: ignore[arg-type]
    return draw(
        spec, np.arange(n), np.full(n, height, np.int32), np.full(n, width, np.int32), seed, epoch
    )


def alike(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Whether two samples have the same distribution, by the Kolmogorov-Smirnov test."""
    assert len(ours) > 500
    assert stats.ks_2samp(ours, theirs).pvalue > 1e-4


def blank(height: int = 120, width: int = 200) -> torch.Tensor:
    """uint8 [3, height, width], black."""
    return torch.zeros(3, height, width, dtype=torch.uint8)


def theirs_of(
    transform: v2.Transform, names: list[str], num: int = NUM, image: torch.Tensor | None = None
) -> dict[str, np.ndarray]:
    """The parameters that a transform of torchvision draws, `num` times."""
    torch.manual_seed(0)
    image = blank() if image is None else image
    rows = [transform.make_params([image]) for _ in range(num)]
    return {name: np.array([row[name] for row in rows], np.float64) for name in names}
