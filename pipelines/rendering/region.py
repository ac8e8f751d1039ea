"""Regions: the part of a stored image that a sample needs, and the Plan relative to it.

In: a Plan and stored sizes. Out: boxes, or the geometry and clip relative to boxes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from slipform.pipelines.plan.plan import Plan

__all__ = ["regions_needed", "relative"]

Int32 = npt.NDArray[np.int32]


def relative(
    plan: Plan, origin: Int32, heights: Int32, widths: Int32
) -> tuple[npt.NDArray[np.float32], Int32]:
    """Translate geometry and clip of a Plan to regions of the images.

    The clip ends at the region. Renderers may read pixels of weight 0, and memory ends there. The
    pixels outside `regions_needed` have weight 0, so the output does not change.

    Args:
        plan: The Plan of N samples.
        origin: int32 [N, 2], the point (x, y) where each region begins.
        heights: int32 [N], heights of the regions in pixels.
        widths: int32 [N], widths of the regions in pixels.

    Returns:
        Geometry float32 [N, 3, 3] and clip int32 [N, 4].
    """
    low = np.maximum(plan.clip[:, :2] - origin, 0)
    high = np.minimum(plan.clip[:, 2:] - origin, np.stack([widths, heights], axis=1))
    clip = np.concatenate([low, high], axis=1).astype(np.int32)
    if not origin.any():
        return plan.geometry, clip
    geometry = plan.geometry.astype(np.float64)
    geometry[:, :2] -= origin[:, :, None] * geometry[:, 2:3]
    return geometry.astype(np.float32), clip


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
    if not plan.axis_aligned or plan.border != "zero":
        return whole
    regions = plan.clip.copy()
    for axis in range(2):
        step = plan.geometry[:, axis, axis].astype(np.float64)
        start = plan.geometry[:, axis, 2].astype(np.float64)
        end = start + step * plan.image_size
        # Half the width of the triangle filter, and one pixel for rounding.
        margin = np.maximum(1.0, np.abs(step)) + 1.0
        low, high = plan.clip[:, axis], plan.clip[:, axis + 2]
        regions[:, axis] = np.clip(np.floor(np.minimum(start, end) - margin), low, high - 1)
        regions[:, axis + 2] = np.clip(
            np.ceil(np.maximum(start, end) + margin), regions[:, axis] + 1, high
        )
    return regions
