"""The edges of the image, what lies outside it, and erased boxes, put right on finished batches;
torch, on any device.

In: images [N, S, S, 3] and their Plan. Out: the same. DALI's resize knows no borders: it repeats
edge pixels; as `edge` and `reflect` repeat and mirror output pixels
(`slipform.pipelines.plan.plan`), they are a gather, and `zero` is one color. Where it reduces, its
filter reads beyond the edge: it is given black there (`paddings`), and the weight that this lost is
made good here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from slipform.pipelines.plan.plan import Plan
from slipform.pipelines.upload import upload

Float64 = npt.NDArray[np.float64]
Int32 = npt.NDArray[np.int32]


def paddings(step: npt.NDArray[np.floating[Any]]) -> Int32:
    """int32, like step (stored pixels per output pixel): the black pixels that the filter may read
    beyond an edge."""
    return np.where(np.abs(step) > 1, np.ceil(np.abs(step)) + 1, 0).astype(np.int32)


def lost_weight(centers: Float64, step: Float64, low: Float64, high: Float64) -> Float64:
    """For outputs about `centers` (all float64 [M], stored pixels): what their weights must be
    multiplied by, pixels outside low..high being black: 1 over the share of a triangle's weights
    that lies inside. Where nothing is reduced, 1."""
    support = np.abs(step)
    gains = np.ones(len(centers))
    inside = (centers >= low) & (centers < high)
    at = np.flatnonzero(
        (support > 1) & inside & ((centers - support < low) | (centers + support > high))
    )
    if len(at):
        centers, support = centers[at, None], support[at, None]
        pixels = (
            np.floor(centers - support + 0.5) + np.arange(int(np.ceil(2 * support.max())) + 1) + 0.5
        )
        weights = np.maximum(0.0, 1.0 - np.abs(pixels - centers) / support)
        exist = (pixels > low[at, None]) & (pixels < high[at, None])
        gains[at] = weights.sum(1) / (weights * exist).sum(1)
    return gains


def restore_edges(images: Tensor, plan: Plan) -> Tensor:
    """images [N, S, S, 3] of an axis-aligned plan, reduced with black beyond the edges: the weight
    lost there, in place."""
    for axis in range(2):
        step = np.repeat(plan.geometry[:, axis, axis].astype(np.float64), plan.image_size)
        low, high = (
            np.repeat(plan.clip[:, k].astype(np.float64), plan.image_size) for k in (axis, axis + 2)
        )
        sample, line = np.divmod(np.arange(len(step)), plan.image_size)
        gains = lost_weight(plan.geometry[sample, axis, 2] + (line + 0.5) * step, step, low, high)
        found = np.flatnonzero(gains != 1)
        if not len(found):
            continue
        sample, line = sample[found], line[found]
        at = tuple(upload(v, images.device) for v in (sample, line))
        gain = upload(gains[found].astype(np.float32), images.device)[:, None, None]
        black = upload(plan.color[sample, None, :, 3].copy(), images.device)
        lines = images if axis else images.transpose(1, 2)
        lines[at] = black + (lines[at] - black) * gain
    return images


def fill_outside(images: Tensor, plan: Plan) -> Tensor:
    """images [N, S, S, 3] of an axis-aligned plan: pixels whose center lies outside `clip` take the
    border."""
    columns, inside_x = _sources(plan, 0)
    rows, inside_y = _sources(plan, 1)
    if inside_x.all() and inside_y.all():
        return images
    if plan.border == "zero":
        inside = upload(inside_y[:, :, None, None] & inside_x[:, None, :, None], images.device)
        black = upload(plan.color[:, None, None, :, 3].copy(), images.device).to(images.dtype)
        return torch.where(inside, images, black)
    batch = torch.arange(len(plan), device=images.device)[:, None, None]
    y, x = (upload(v, images.device) for v in (rows, columns))
    return images[batch, y[:, :, None], x[:, None, :]]


def _sources(plan: Plan, axis: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """int64 [N, S]: the output position along an axis that each output position repeats; bool [N,
    S]: it lies inside."""
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
