"""Edges, borders and erased boxes of the `dali` executor, corrected on finished batches.

numba computes the numbers, and torch changes the pixels on any device.

In: images [N, S, S, 3] and their Plan. Out: the same images. DALI's resize has no borders: it
repeats the edge pixels of the image. `edge` and `reflect` repeat and mirror output pixels
(`slipform.pipelines.plan.plan`), which is a gather. `zero` is one color. DALI's filter reads beyond
the edge of an image that it reduces. It finds black pixels there (`paddings`), and their weight is
corrected here. The cost is a comparison per image if no pixel is outside.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from slipform.pipelines.kernel import kernel
from slipform.pipelines.plan.plan import Plan
from slipform.pipelines.rendering.taps import BORDERS, REFLECT
from slipform.pipelines.upload import upload, upload_together

__all__ = ["erase_boxes", "fill_outside", "paddings", "restore_edges", "whole_axis_gains"]

_Float64 = npt.NDArray[np.float64]
_Int32 = npt.NDArray[np.int32]


def paddings(step: npt.NDArray[np.floating[Any]]) -> _Int32:
    """The number of black pixels that the filter may read beyond an edge.

    Args:
        step: Stored pixels per output pixel, of any shape. Negative: mirrored.

    Returns:
        int32, of the same shape.
    """
    return np.where(np.abs(step) > 1, np.ceil(np.abs(step)) + 1, 0).astype(np.int32)


@kernel
def _lost_weight(center, step, low, high):  # type: ignore[no-untyped-def]
    """The factor that corrects an output pixel at `center` (in stored pixels), where pixels outside
    low..high are black: 1 / (the share of the triangle's weights inside)."""
    support = abs(step)
    if support <= 1 or center < low or center >= high:
        return 1.0
    if center - support >= low and center + support <= high:
        return 1.0
    first = np.floor(center - support + 0.5) + 0.5
    total = inside = 0.0
    for k in range(int(np.ceil(2 * support)) + 1):
        weight = max(0.0, 1.0 - abs(first + k - center) / support)
        total += weight
        if low < first + k < high:
            inside += weight
    return total / inside


@kernel
def whole_axis_gains(counts, lengths):  # type: ignore[no-untyped-def]
    """The correcting factors for axes that are resized as a whole.

    Args:
        counts: int64 [N], output pixels of each axis.
        lengths: int32 [N], stored pixels of each axis.

    Returns:
        float32 [N, largest count], 1 after the end of an axis.
    """
    gains = np.ones((len(counts), counts.max()), np.float32)
    for i in range(len(counts)):
        step = lengths[i] / counts[i]
        for k in range(counts[i]):
            gains[i, k] = _lost_weight((k + 0.5) * step, step, 0.0, float(lengths[i]))
    return gains


@kernel
def _edge_gains(start, step, low, high, size):  # type: ignore[no-untyped-def]
    """The output lines along an axis that need a correction: (sample int64, line int64, factor
    float32)."""
    samples = np.empty(len(start) * size, np.int64)
    lines = np.empty(len(start) * size, np.int64)
    gains = np.empty(len(start) * size, np.float32)
    found = 0
    for i in range(len(start)):
        if abs(step[i]) <= 1:
            continue
        for k in range(size):
            gain = _lost_weight(start[i] + (k + 0.5) * step[i], step[i], low[i], high[i])
            if gain != 1:
                samples[found], lines[found], gains[found] = i, k, gain
                found += 1
    return samples[:found], lines[:found], gains[:found]


@kernel
def _sources(start, step, low, high, size, border):  # type: ignore[no-untyped-def]
    """For each output position along an axis: the output position whose pixel it takes, int64
    [N, S], and whether it is inside the image, bool [N, S]."""
    positions = np.empty((len(start), size), np.int64)
    inside = np.empty((len(start), size), np.bool_)
    for i in range(len(start)):
        inner_low, inner_high = low[i] + 0.5 * abs(step[i]), high[i] - 0.5 * abs(step[i])
        for k in range(size):
            center = start[i] + (k + 0.5) * step[i]
            inside[i, k] = low[i] <= center < high[i]
            positions[i, k] = k
            if inside[i, k]:
                continue
            if border == REFLECT:
                period = max(2 * (inner_high - inner_low), 1e-6)
                phase = (center - inner_low) % period
                folded = inner_low + min(phase, period - phase)
            else:
                folded = min(max(center, inner_low), max(inner_high, inner_low))
            at = int(np.rint((folded - start[i]) / step[i] - 0.5))
            positions[i, k] = min(max(at, 0), size - 1)
    return positions, inside


def _axis(plan: Plan, axis: int) -> tuple[_Float64, _Float64, _Int32, _Int32]:
    """start, step, low, high of all samples along an axis (0: x), in stored pixels."""
    geometry = plan.geometry.astype(np.float64)
    start, step = geometry[:, axis, 2].copy(), geometry[:, axis, axis].copy()
    return start, step, plan.clip[:, axis].copy(), plan.clip[:, axis + 2].copy()


def _some_outside(plan: Plan, axis: int) -> bool:
    """Whether any output center is outside `clip`. Then the first or the last one is."""
    start, step, low, high = _axis(plan, axis)
    first, last = start + 0.5 * step, start + (plan.image_size - 0.5) * step
    return bool((np.minimum(first, last) < low).any() or (np.maximum(first, last) >= high).any())


def restore_edges(images: Tensor, plan: Plan) -> Tensor:
    """Correct the pixels near the edges of images that were reduced with black outside.

    Args:
        images: [N, S, S, 3], changed in place.
        plan: Their Plan, axis-aligned.

    Returns:
        `images`.
    """
    for axis in range(2):
        start, step, low, high = _axis(plan, axis)
        if (np.abs(step) <= 1).all():
            continue
        sample, line, gain = _edge_gains(start, step, low, high, plan.image_size)
        if not len(sample):
            continue
        at_sample, at_line, gains, black = upload_together(
            [sample, line, gain[:, None, None], plan.color[sample, None, :, 3]], images.device
        )
        at = (at_sample, at_line)
        lines = images if axis else images.transpose(1, 2)
        lines[at] = black + (lines[at] - black) * gains
    return images


def fill_outside(images: Tensor, plan: Plan) -> Tensor:
    """Apply the border to the pixels whose center is outside `clip`.

    Args:
        images: [N, S, S, 3].
        plan: Their Plan, axis-aligned.

    Returns:
        `images` itself if nothing is outside, else a new tensor.
    """
    if not _some_outside(plan, 0) and not _some_outside(plan, 1):
        return images
    border, size = BORDERS[plan.border], plan.image_size
    columns, inside_x = _sources(*_axis(plan, 0), size, border)
    rows, inside_y = _sources(*_axis(plan, 1), size, border)
    if plan.border == "zero":
        x, y, black = upload_together(
            [inside_x, inside_y, plan.color[:, None, None, :, 3].copy()], images.device
        )
        inside = y[:, :, None, None] & x[:, None, :, None]
        return torch.where(inside, images, black.to(images.dtype))
    x, y = upload_together([columns, rows], images.device)
    batch = torch.arange(len(plan), device=images.device)[:, None, None]
    return images[batch, y[:, :, None], x[:, None, :]]


def erase_boxes(images: Tensor, plan: Plan) -> Tensor:
    """Set the erased boxes to 0.

    Args:
        images: [N, S, S, 3], changed in place.
        plan: Their Plan.

    Returns:
        `images`.
    """
    if plan.erase is None or not (plan.erase[:, 2] > plan.erase[:, 0]).any():
        return images
    x0, y0, x1, y1 = upload(plan.erase, images.device)[:, :, None].unbind(1)
    at = torch.arange(plan.image_size, device=images.device)
    rows, columns = (at >= y0) & (at < y1), (at >= x0) & (at < x1)
    return images.masked_fill_(rows[:, :, None, None] & columns[:, None, :, None], 0)
