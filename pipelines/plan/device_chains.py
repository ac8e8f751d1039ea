"""The operations of a policy, drawn on the device: `DeviceChains`.

In: an Augmentation with a policy, and the samples and geometry of a batch in the memory of the
device. Out: the arrays of `Chains` there. `slipform.pipelines.plan.triton_chains` has the kernel.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.plan.policy_space import Space, space_of
from slipform.pipelines.upload import upload

__all__ = ["DeviceChains", "switches", "table"]


class DeviceChains:
    """Draws the chains of consecutive batches. The next `draw` overwrites all attributes.

    Args:
        spec: The augmentation, with a policy.
        batch_size: Images per batch on this process.
        device: The device.

    Attributes:
        geometry, codes, amounts, weights: As in `Chains`, tensors on the device; codes are int32.
        moves: int32 [N, C], see `triton_chains.draw_chains`.
        numbers: All of them, in the order of `launch.pack`.
    """

    def __init__(self, spec: Augmentation, batch_size: int, device: torch.device) -> None:
        space = space_of(spec.policy, spec.image_size)
        self._switches, self._batch = switches(space), batch_size
        self._numbers = upload(table(space, spec.image_size), device)
        shape = (batch_size, space.chains + space.mixed)
        self.geometry = torch.zeros((*shape, 3, 3), dtype=torch.float32, device=device)
        self.codes = torch.zeros((*shape, space.depth), dtype=torch.int32, device=device)
        self.amounts = torch.zeros((*shape, space.depth), dtype=torch.float32, device=device)
        self.weights = torch.ones(shape, dtype=torch.float32, device=device)
        self.moves = torch.zeros(shape, dtype=torch.int32, device=device)
        self.numbers = [self.geometry, self.codes, self.amounts, self.weights, self.moves]

    def draw(self, position: Tensor, indices: Tensor, floats: Tensor) -> None:
        """Enqueue the drawing of a batch.

        Args:
            position: int64 [3]: epoch, samples of it seen, seed.
            indices: int64 [N], the samples.
            floats: float32 [N, 21], whose first nine numbers are the geometry.
        """
        from slipform.pipelines.plan import triton, triton_chains

        triton_chains.draw_chains[(-(-self._batch // triton.BLOCK),)](
            position,
            indices,
            floats,
            self._numbers,
            self.geometry,
            self.codes,
            self.amounts,
            self.weights,
            self.moves,
            self._batch,
            **self._switches,
            BLOCK=triton.BLOCK,
            **triton.OPTIONS,
        )


def table(space: Space, size: int) -> npt.NDArray[np.float64]:
    """The numbers of a policy in the order of the kernel.

    Args:
        space: The space of the policy.
        size: Side of the output in pixels.

    Returns:
        float64: 8 numbers; code, sign and B magnitudes of each of M operations; position, magnitude
        and probability of each of P * depth fixed operations.
    """
    operations = np.column_stack([space.codes, space.signed, space.amounts]).ravel()
    fixed: Any = np.dstack([space.choices, space.chances]).ravel() if len(space.choices) else []
    head = [size, space.low, space.high - space.low, space.alpha]
    head += [math.pi / 180, 2 * math.pi, 1 / 3, 0]
    return np.concatenate([head, operations, fixed]).astype(np.float64)


def switches(space: Space) -> dict[str, int | bool]:
    """The options with which the kernel is compiled.

    Args:
        space: The space of the policy.
    """
    return {
        "CHAINS": space.chains + space.mixed,
        "DEPTH": space.depth,
        "RANDOM_DEPTH": space.random_depth,
        "MIXED": int(space.mixed),
        "SMALL_ALPHA": space.alpha < 1,
        "OPERATIONS": len(space.codes),
        "BINS": space.amounts.shape[1],
        "FIXED": len(space.choices),
    }
