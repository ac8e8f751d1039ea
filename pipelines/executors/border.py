"""What lies outside the image, and erased boxes, put right on finished batches; torch, on any device.

In: images [N, S, S, 3] and their Plan. Out: the same. DALI's resize knows no borders: it repeats edge pixels; as `edge` and
`reflect` repeat and mirror output pixels (`pipelines.plan`), they are a gather, and `zero` is one colour.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipelines.plan import Plan


def fill_outside(images: Tensor, plan: Plan) -> Tensor:
    """images [N, S, S, 3] of an axis-aligned plan: pixels whose centre lies outside `clip` take the border."""
    columns, inside_x = _sources(plan, 0)
    rows, inside_y = _sources(plan, 1)
    if inside_x.all() and inside_y.all():
        return images
    if plan.border == "zero":
        inside = torch.from_numpy(inside_y[:, :, None, None] & inside_x[:, None, :, None]).to(images.device)
        black = torch.from_numpy(plan.color[:, None, None, :, 3].copy()).to(images.device, images.dtype)
        return torch.where(inside, images, black)
    batch = torch.arange(len(plan), device=images.device)[:, None, None]
    y, x = (torch.from_numpy(v).to(images.device) for v in (rows, columns))
    return images[batch, y[:, :, None], x[:, None, :]]


def _sources(plan: Plan, axis: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """int64 [N, S]: the output position along an axis that each output position repeats; bool [N, S]: it lies inside."""
    size = plan.image_size
    step = plan.geometry[:, axis, axis].astype(np.float64)[:, None]
    start = plan.geometry[:, axis, 2].astype(np.float64)[:, None]
    low, high = plan.clip[:, axis, None], plan.clip[:, axis + 2, None]
    centers = start + (np.arange(size) + 0.5) * step
    inside = (centers >= low) & (centers < high)
    inner_low, inner_high = low + 0.5 * abs(step), high - 0.5 * abs(step)
    if plan.border == "reflect":
        period = np.maximum(2 * (inner_high - inner_low), 1e-6)
        phase = (centers - inner_low) % period
        folded = inner_low + np.minimum(phase, period - phase)
    else:
        folded = np.clip(centers, inner_low, np.maximum(inner_high, inner_low))
    positions = np.where(inside, np.arange(size), np.rint((folded - start) / step - 0.5))
    return np.clip(positions, 0, size - 1).astype(np.int64), inside


def erase_boxes(images: Tensor, plan: Plan) -> Tensor:
    """images [N, S, S, 3] with the plan's boxes set to 0, in place."""
    if plan.erase is not None:
        for i in np.flatnonzero(plan.erase[:, 2] > plan.erase[:, 0]):
            x0, y0, x1, y1 = plan.erase[i]
            images[i, y0:y1, x0:x1] = 0
    return images
