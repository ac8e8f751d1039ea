"""`Chains`: the operations of a `Policy` that are drawn for each sample, as a part of the Plan.

In: a Plan without chains, a policy, seed and epoch. Out: its `Chains`. The code is compiled by
numba. All operations of a chain that move pixels are joined with the geometry of the sample, so the
image is sampled once per chain. The operations on pixels keep their order.

The draws of a sample have these numbers, beside those of `slipform.pipelines.plan.kernels`:

    40..139 operations, ten for each chain   140 policy of AutoAugment   141..150 depths of chains
    200.. weights of AugMix, 20 attempts for each
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from slipform.pipelines.kernel import kernel
from slipform.pipelines.plan.operations import (
    ROTATE,
    SHEAR_X,
    SHEAR_Y,
    TRANSLATE_X,
    TRANSLATE_Y,
)
from slipform.pipelines.plan.philox import uniforms
from slipform.pipelines.plan.policy import Policy
from slipform.pipelines.plan.policy_space import space_of

__all__ = ["Chains", "draw_chains", "draw_operations", "join"]

_Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Chains:
    """C chains of up to K operations for each of N samples.

    Each chain makes a picture from the stored image. A sample is the sum of its pictures, weighted.

    Attributes:
        geometry: float32 [N, C, 3, 3], maps output points to points of the stored image.
        codes: uint8 [N, C, K], operations in their order: positions in `operations.OPERATIONS`.
            Those on positions are part of `geometry` already.
        amounts: float32 [N, C, K], their magnitudes, with a sign, as in torchvision.
        weights: float32 [N, C], the share of each picture. Their sum is 1.
    """

    geometry: _Float32
    codes: npt.NDArray[np.uint8]
    amounts: _Float32
    weights: _Float32

    def part(self, at: slice) -> Chains:
        """The chains of some of the samples.

        Args:
            at: Positions of the samples.
        """
        return Chains(self.geometry[at], self.codes[at], self.amounts[at], self.weights[at])


def draw_chains(
    policy: Policy,
    size: int,
    indices: npt.NDArray[np.int64],
    geometry: _Float32,
    seed: int,
    epoch: int,
) -> Chains:
    """Draw the operations of a batch. They depend on (seed, epoch, index) alone.

    Args:
        policy: A policy other than "none".
        size: Side of the output in pixels.
        indices: int64 [N], the samples.
        geometry: float32 [N, 3, 3], as in the Plan: crop, flip and warp.
        seed: The seed.
        epoch: The epoch, from 0.
    """
    space = space_of(policy, size)
    n, chains = len(indices), space.chains + space.mixed
    moved = np.empty((n, chains, 3, 3), np.float32)
    codes = np.zeros((n, chains, space.depth), np.uint8)
    amounts = np.zeros((n, chains, space.depth), np.float32)
    weights = np.ones((n, chains), np.float32)
    draw_operations(
        indices, geometry, np.uint64(seed), np.uint64(epoch), float(size), space,
        moved, codes, amounts, weights,
    )  # fmt: skip
    return Chains(moved, codes, amounts, weights)


@kernel
def draw_operations(indices, geometry, key, epoch, size, space, moved, codes, amounts, weights):
    """Draw the operations of a batch: the kernel of `draw_chains`.

    Args:
        indices, geometry: As for `draw_chains`.
        key, epoch: uint64, seed and epoch.
        size: Side of the output in pixels, float.
        space: The `Space` of the policy.
        moved, codes, amounts, weights: Outputs, as in `Chains`. `codes` and `amounts` are 0 before.
    """
    total, step = np.empty((3, 3)), np.empty((3, 3))
    for i in range(len(indices)):
        sample = np.uint64(indices[i])
        fixed = -1
        if len(space.choices):
            u = uniforms(key, epoch, sample, np.uint64(140))[0]
            fixed = int(u * len(space.choices))
        for c in range(moved.shape[1]):
            total[:] = geometry[i]
            number = c - 1 if space.mixed else c  # -1: the image itself
            depth = space.depth if number >= 0 else 0
            if space.random_depth and number >= 0:
                u = uniforms(key, epoch, sample, np.uint64(141 + number))[0]
                depth = 1 + int(u * 3)
            for k in range(depth):
                u = uniforms(key, epoch, sample, np.uint64(40 + 10 * number + k))
                at, which = int(u[0] * len(space.codes)), space.low
                if fixed >= 0:
                    if u[3] > space.chances[fixed, k]:
                        continue
                    at, which = space.choices[fixed, k, 0], space.choices[fixed, k, 1]
                else:
                    which += int(u[1] * (space.high - space.low))
                amount = space.amounts[at, which]
                if space.signed[at] and u[2] < 0.5:
                    amount = -amount
                codes[i, c, k], amounts[i, c, k] = space.codes[at], amount
                join(total, space.codes[at], amount, size, step)
            moved[i, c] = total
        if space.mixed:
            _draw_weights(key, epoch, sample, space.alpha, weights[i])


@kernel
def join(total, code, amount, size, step):
    """Join an operation on positions with the geometry before it.

    total = total · (output point -> point before the operation). Shear is about the upper left
    corner, as in torchvision, and rotation about the center.

    Args:
        total: float64 [3, 3], changed in place.
        code: The operation. Those on pixels change nothing.
        amount: Its magnitude, with a sign: a slope, pixels, or degrees.
        size: Side of the output in pixels, float.
        step: Scratch memory, float64 [3, 3].
    """
    a00, a01, a02, a10, a11, a12 = 1.0, 0.0, 0.0, 0.0, 1.0, 0.0
    if code == SHEAR_X:
        a01 = amount
    elif code == SHEAR_Y:
        a10 = amount
    elif code == TRANSLATE_X:
        a02 = -np.trunc(amount)
    elif code == TRANSLATE_Y:
        a12 = -np.trunc(amount)
    elif code == ROTATE:
        cos, sin, middle = np.cos(np.deg2rad(amount)), np.sin(np.deg2rad(amount)), size / 2
        a00, a01, a10, a11 = cos, -sin, sin, cos
        a02, a12 = middle - middle * (cos - sin), middle - middle * (sin + cos)
    else:
        return
    for r in range(3):
        x, y, z = total[r, 0], total[r, 1], total[r, 2]
        step[r, 0] = x * a00 + y * a10
        step[r, 1] = x * a01 + y * a11
        step[r, 2] = x * a02 + y * a12 + z
    total[:] = step


@kernel
def _draw_weights(key, epoch, sample, alpha, out):
    """The weights of AugMix: the image itself against all chains by Dirichlet(alpha, alpha), and
    the chains among themselves by Dirichlet(alpha, ..., alpha)."""
    own = _gamma(key, epoch, sample, 0, alpha)
    other = _gamma(key, epoch, sample, 1, alpha)
    share = other / (own + other)
    out[0] = 1 - share
    total = 0.0
    for c in range(1, len(out)):
        out[c] = _gamma(key, epoch, sample, 1 + c, alpha)
        total += out[c]
    # With a small alpha, all of them may be below the smallest float32.
    are_lost = total == 0.0
    if are_lost:
        for c in range(1, len(out)):
            total += _gamma(key, epoch, sample, 1 + c, alpha)
    for c in range(1, len(out)):
        value = _gamma(key, epoch, sample, 1 + c, alpha) if are_lost else np.float64(out[c])
        out[c] = value / total * share


@kernel
def _gamma(key, epoch, sample, number, alpha):
    """A number from the Gamma distribution. Marsaglia and Tsang, "A Simple Method for Generating
    Gamma Variables", 2000. An attempt fails in at most 5 % of cases; the last one is taken."""
    d = (alpha if alpha >= 1 else alpha + 1) - 1 / 3
    c = 1 / np.sqrt(9 * d)
    value = d
    for attempt in range(20):
        u = uniforms(key, epoch, sample, np.uint64(200 + 20 * number + attempt))
        normal = np.sqrt(-2 * np.log(u[0])) * np.cos(2 * np.pi * u[1])
        v = (1 + c * normal) ** 3
        if v > 0 and np.log(u[2]) < 0.5 * normal**2 + d * (1 - v + np.log(v)):
            value = d * v
            if alpha < 1:
                value *= u[3] ** (1 / alpha)
            break
    return max(value, 1e-300)
