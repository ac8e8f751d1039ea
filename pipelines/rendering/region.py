"""Regions: the part of a stored image that a sample needs, and the Plan relative to it.

In: a Plan and stored sizes. Out: boxes, or the geometry and clip relative to boxes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from slipform.pipelines.decoding.jpeg_entries import LARGE_PIXELS
from slipform.pipelines.plan.plan import Plan

__all__ = ["decode_scales", "moved", "regions_needed", "relative"]

Int32 = npt.NDArray[np.int32]
# A reduced decode leaves at least this many pixels per output pixel. For photos with hard edges and
# grain, the average difference from a full decode is 1.1 levels from 1.25 to 1.5 pixels, 0.8 from
# 1.5 to 1.75, and 1.9 from 1 to 1.1.
_MIN_STEP = 1.25
_SCALES = (2, 4, 8)


def relative(
    plan: Plan, origin: Int32, heights: Int32, widths: Int32, scales: Int32 | None = None
) -> tuple[npt.NDArray[np.float32], Int32]:
    """Translate geometry and clip of a Plan to regions of the images.

    The clip ends at the region. Renderers may read pixels of weight 0, and memory ends there. The
    pixels outside `regions_needed` have weight 0, so the output does not change.

    Args:
        plan: The Plan of N samples.
        origin: int32 [N, 2], the point (x, y) where each region begins.
        heights: int32 [N], heights of the regions in pixels.
        widths: int32 [N], widths of the regions in pixels.
        scales: int32 [N], the scales of `Pixels`. The clip of a reduced region is rounded to its
            pixels. None: all 1.

    Returns:
        Geometry float32 [N, 3, 3] and clip int32 [N, 4].
    """
    low, high = plan.clip[:, :2] - origin, plan.clip[:, 2:] - origin
    sides = np.stack([widths, heights], axis=1)
    if scales is not None:
        reduced = scales[:, None] > 1
        first = np.minimum(np.rint(low / scales[:, None]), sides - 1)
        last = np.maximum(np.rint(high / scales[:, None]), first + 1)
        low, high = np.where(reduced, first, low), np.where(reduced, last, high)
    low, high = np.maximum(low, 0), np.minimum(high, sides)
    clip = np.concatenate([low, high], axis=1).astype(np.int32)
    if scales is None and not origin.any():
        return plan.geometry, clip
    return moved(plan.geometry, origin, scales).astype(np.float32), clip


def moved(
    geometry: npt.NDArray[np.float32], origin: Int32, scales: Int32 | None = None
) -> npt.NDArray[np.float64]:
    """Translate geometry to regions of the images.

    Args:
        geometry: float32 [N, 3, 3], or [N, C, 3, 3] for C chains.
        origin: int32 [N, 2], the point (x, y) where each region begins.
        scales: int32 [N], the scales of `Pixels`. None: all 1.

    Returns:
        float64, of the same shape. In float32 the positions would be rounded in another way than
        those in the whole image.
    """
    matrix = geometry.astype(np.float64)
    sides = (len(origin), *[1] * (matrix.ndim - 3))
    matrix[..., :2, :] -= origin.reshape(*sides, 2, 1) * matrix[..., 2:3, :]
    if scales is not None:
        matrix[..., :2, :] /= scales.reshape(*sides, 1, 1)
    return matrix


def regions_needed(plan: Plan, heights: Int32, widths: Int32) -> Int32:
    """Find the stored pixels on which the output of each sample can depend.

    Args:
        plan: The Plan of N samples.
        heights: int32 [N], heights of the stored images in pixels.
        widths: int32 [N], widths of the stored images in pixels.

    Returns:
        int32 [N, 4] (x0, y0, x1, y1), regions of one pixel or more.
    """
    whole = np.stack(
        [np.zeros_like(widths), np.zeros_like(heights), widths, heights], axis=1
    ).astype(np.int32)
    if plan.chains is not None:
        return plan.clip.copy()
    if not plan.axis_aligned or plan.border != "zero":
        return whole
    regions = plan.clip.copy()
    for axis in range(2):
        step = plan.geometry[:, axis, axis].astype(np.float64)
        start = plan.geometry[:, axis, 2].astype(np.float64)
        end = start + step * plan.image_size
        # Half the width of the filter, and one pixel for rounding.
        margin = np.maximum(1.0, np.abs(step)) * (2.0 if plan.cubic else 1.0) + 1.0
        low, high = plan.clip[:, axis], plan.clip[:, axis + 2]
        regions[:, axis] = np.clip(np.floor(np.minimum(start, end) - margin), low, high - 1)
        regions[:, axis + 2] = np.clip(
            np.ceil(np.maximum(start, end) + margin), regions[:, axis] + 1, high
        )
    return regions


def decode_scales(plan: Plan, heights: Int32, widths: Int32) -> Int32:
    """Choose the scales at which images are decoded, from the Plan alone.

    A box with many stored pixels per output pixel does not need all of them. The filter of the
    renderer still averages 1.25 or more decoded pixels on each axis, so the result is near that of
    a full decode. tests/pipelines/decoding/test_scaled.py measures the difference.

    Args:
        plan: The Plan of N samples.
        heights: int32 [N], heights of the stored images in pixels.
        widths: int32 [N], widths of the stored images in pixels.

    Returns:
        int32 [N] of 1, 2, 4, 8. It is 1 for images below LARGE_PIXELS, and for samples that are
        not axis-aligned.
    """
    scales = np.ones(len(plan), np.int32)
    if not plan.axis_aligned:
        return scales
    large = heights.astype(np.int64) * widths >= LARGE_PIXELS
    step = np.minimum(np.abs(plan.geometry[:, 0, 0]), np.abs(plan.geometry[:, 1, 1]))
    for scale in _SCALES:
        scales[large & (step >= _MIN_STEP * scale)] = scale
    return scales
