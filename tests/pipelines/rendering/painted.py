"""One image with given operations, painted by the kernels for CPU cores and by torchvision.

In: an image, operations by name with magnitudes. Out: float arrays [S, S, 3] of levels 0..255.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torchvision.transforms import InterpolationMode, v2

from slipform.pipelines.decoding.pixels import Pixels
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.plan.chains import Chains, join
from slipform.pipelines.plan.operations import OPERATIONS
from slipform.pipelines.plan.plan import Plan, draw
from slipform.pipelines.plan.policy import Policy
from slipform.pipelines.rendering.pool import RenderPool
from slipform.pipelines.rendering.request import Settings

Operations = list[tuple[str, float]]
PLAIN = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
CPU = torch.device("cpu")


def spec_for(size: int, **options: object) -> Augmentation:
    """Plain levels / 255, with a policy, which `plan_for` replaces."""
    plain: dict[str, object] = {"image_size": size, "crop": "none", "normalize": PLAIN}
    return Augmentation(**plain | {"policy": Policy("rand_augment")} | options)  # type: ignore[arg-type]


def plan_for(
    spec: Augmentation, images: list[np.ndarray], operations: Operations, seed: int = 0
) -> Plan:
    """The Plan of images with the same operations for each."""
    count, sides = len(images), np.array([image.shape[:2] for image in images], np.int32).T.copy()
    plan = draw(spec, np.arange(count), sides[0], sides[1], seed, 0)
    codes = [OPERATIONS.index(name) for name, _ in operations]
    geometry = np.empty((count, 1, 3, 3), np.float32)
    for i in range(count):
        total = plan.geometry[i].astype(np.float64)
        for code, (_, amount) in zip(codes, operations, strict=True):
            join(total, code, amount, float(spec.image_size), np.empty((3, 3)))
        geometry[i, 0] = total
    shape = (count, 1, len(codes))
    amounts = np.array([amount for _, amount in operations], np.float32)
    chains = Chains(
        geometry,
        np.broadcast_to(np.array(codes, np.uint8), shape).copy(),
        np.broadcast_to(amounts, shape).copy(),
        np.ones((count, 1), np.float32),
    )
    return replace(plan, chains=chains)


def paint(
    spec: Augmentation, images: list[np.ndarray], plan: Plan, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """The images [N, 3, S, S] of a Plan."""
    sides = np.array([image.shape[:2] for image in images], np.int32).T.copy()
    pool = RenderPool(Settings(spec, len(images), dtype, CPU, threads=1), 1)
    addresses = np.array([image.ctypes.data for image in images])
    pool.begin(plan, Pixels(addresses, sides[0], sides[1], owner=images))
    out = pool.collect().images.clone()
    pool.close()
    return out


def ours(image: np.ndarray, size: int, operations: Operations, **options: object) -> np.ndarray:
    """Levels, painted by the kernels."""
    spec = spec_for(size, **options)
    out = paint(spec, [image], plan_for(spec, [image], operations))
    return out[0].permute(1, 2, 0).numpy() * 255.0


def theirs(image: np.ndarray, operations: Operations) -> np.ndarray:
    """Levels, by torchvision, one operation after another on uint8, bilinear."""
    picture = torch.from_numpy(image).permute(2, 0, 1)
    apply = v2.RandAugment()._apply_image_or_video_transform
    for name, amount in operations:
        picture = apply(picture, name, amount, InterpolationMode.BILINEAR, {torch.Tensor: None})
    return picture.permute(1, 2, 0).numpy().astype(np.float64)
