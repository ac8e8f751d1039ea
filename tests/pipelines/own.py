"""Own augmentations for tests: an exchange of colors, a rotation, an erased corner, a box.

In: Plans. Out: changed Plans. Importing this module registers them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from slipform.pipelines.plan.plan import Plan
from slipform.pipelines.plan.registry import register_augmentation


@register_augmentation
def exchange(plan: Plan, uniforms: np.ndarray, *, probability: float = 0.5) -> Plan:
    """Exchange the stored red and blue."""
    chosen = uniforms[:, 0] < probability
    color = np.where(chosen[:, None, None], plan.color[:, :, [2, 1, 0, 3]], plan.color)
    return replace(plan, color=color)


def rotation(degrees: np.ndarray, size: int) -> np.ndarray:
    """float64 [N, 3, 3]: an output point -> the point that is there before a rotation about the
    center, counterclockwise as in torchvision."""
    angle = np.deg2rad(degrees)
    turn = np.zeros((len(angle), 3, 3))
    turn[:, 0, 0] = turn[:, 1, 1] = np.cos(angle)
    turn[:, 0, 1], turn[:, 1, 0], turn[:, 2, 2] = -np.sin(angle), np.sin(angle), 1
    middle = np.array([[1, 0, size / 2], [0, 1, size / 2], [0, 0, 1]])
    back = np.array([[1, 0, -size / 2], [0, 1, -size / 2], [0, 0, 1]])
    result: np.ndarray = middle @ turn @ back
    return result


@register_augmentation(warps=True)
def turn(plan: Plan, uniforms: np.ndarray, *, degrees: float, probability: float = 1.0) -> Plan:
    """Rotate by an angle, counterclockwise."""
    angles = np.where(uniforms[:, 0] < probability, degrees, 0.0)
    return replace(plan, geometry=plan.geometry @ rotation(angles, plan.image_size))


@register_augmentation
def corner(plan: Plan, uniforms: np.ndarray, *, share: float = 0.5) -> Plan:
    """Erase the upper left corner, in addition to what is erased."""
    erase = np.zeros((len(plan), 4), np.int64) if plan.erase is None else plan.erase
    side = np.rint(uniforms[:, :2] * share * plan.image_size).astype(np.int64)
    zero = np.zeros(len(plan), np.int64)
    box = np.stack([zero, zero, side[:, 0], side[:, 1]], axis=1)
    return replace(plan, erase=np.where(uniforms[:, 2:3] < 0.5, box, erase))


@register_augmentation
def quarter(plan: Plan, uniforms: np.ndarray) -> Plan:
    """Show a quarter of the crop, enlarged, with nothing around it."""
    x, y = np.floor(uniforms[:, 0] * 2) / 2, np.floor(uniforms[:, 1] * 2) / 2
    geometry = plan.geometry
    geometry[:, 0, 2] += geometry[:, 0, 0] * x * plan.image_size
    geometry[:, 1, 2] += geometry[:, 1, 1] * y * plan.image_size
    geometry[:, [0, 1], [0, 1]] /= 2
    return plan
