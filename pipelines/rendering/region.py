"""Regions of interest: which part of a stored image a sample needs, and its Plan in that part's own
pixels.

In: a Plan and stored sizes. Out: boxes, and geometry and clip that belong to them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from slipform.pipelines.plan.plan import Plan

Int32 = npt.NDArray[np.int32]


def relative(
    plan: Plan, origin: Int32, heights: Int32, widths: Int32
) -> tuple[npt.NDArray[np.float32], Int32]:
    """Geometry [N, 3, 3] and clip [N, 4] for parts heights x widths of the images that begin at
    origin int32 [N, 2] (x, y).

    The clip ends where the part does: taps of weight 0 (of pixels outside the image too) may be
    read, but only where there is memory. What `regions_needed` leaves out has no weight, so nothing
    else changes.
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
    """int32 [N, 4] (x0, y0, x1, y1): the stored pixels that a sample's output can depend on, at
    least one."""
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
        margin = (
            np.maximum(1.0, np.abs(step)) + 1.0
        )  # the triangle's half-width, and one for rounding
        low, high = plan.clip[:, axis], plan.clip[:, axis + 2]
        regions[:, axis] = np.clip(np.floor(np.minimum(start, end) - margin), low, high - 1)
        regions[:, axis + 2] = np.clip(
            np.ceil(np.maximum(start, end) + margin), regions[:, axis] + 1, high
        )
    return regions
