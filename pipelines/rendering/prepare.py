"""The kernel for a Plan, and its arguments.

In: a Plan, the pixels of its samples. Out: `render` or `render_chains`, and what it is called with.
`are_compiled` says whether the kernels for an augmentation must be compiled first.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from slipform.pipelines.decoding.pixels import Pixels
from slipform.pipelines.kernel import is_compiled
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.plan.chains import draw_operations
from slipform.pipelines.plan.kernels import draw
from slipform.pipelines.plan.plan import Plan
from slipform.pipelines.rendering.blur import blurred
from slipform.pipelines.rendering.chains import render_chains
from slipform.pipelines.rendering.erase import erased
from slipform.pipelines.rendering.region import moved, relative
from slipform.pipelines.rendering.render import render
from slipform.pipelines.rendering.taps import BORDERS

__all__ = ["are_compiled", "prepared"]


def prepared(plan: Plan, pixels: Pixels, size: int, kind: int) -> tuple[Any, tuple[object, ...]]:
    """Choose the kernel, and prepare its arguments.

    Args:
        plan: The Plan of N samples.
        pixels: Their pixels.
        size: Side of the output in pixels.
        kind: FLOAT32, BFLOAT16 or FLOAT16 of `stores`.

    Returns:
        The kernel, and its arguments without the outputs and the range of samples.
    """
    geometry, clip = plan.geometry, plan.clip
    if pixels.origin is not None:
        geometry, clip = relative(plan, pixels.origin, pixels.heights, pixels.widths, pixels.scales)
    images = (pixels.addresses, pixels.heights, pixels.widths)
    if plan.chains is None:
        return render, (
            *images, geometry, plan.color, clip, *erased(plan), *blurred(plan),
            BORDERS[plan.border], plan.cubic, plan.axis_aligned, size, kind,
        )  # fmt: skip
    chains, origin = plan.chains, pixels.origin
    if origin is None:
        origin = np.zeros((len(plan), 2), np.int32)
    base, own = (moved(one, origin, pixels.scales) for one in (plan.geometry, chains.geometry))
    return render_chains, (
        *images, base, own, chains.codes, chains.amounts, chains.weights, plan.color, clip,
        *erased(plan), *blurred(plan), plan.cubic, size, kind,
    )  # fmt: skip


def are_compiled(augment: Augmentation) -> bool:
    """Whether the kernels that draw and render an augmentation on CPU cores are compiled.

    Otherwise its first batch compiles them, which takes about a minute.

    Args:
        augment: The augmentation.
    """
    kernels = (draw, draw_operations, render_chains) if augment.policy else (draw, render)
    return all(map(is_compiled, kernels))
