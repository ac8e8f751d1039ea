"""Small tables of numbers on their way to the device: `upload(values, device)`.

In: an array in memory. Out: a tensor on the device, there as soon as work enqueued later on the
same stream needs it.
"""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor


def upload(values: npt.NDArray[Any], device: torch.device) -> Tensor:
    """The values as a tensor on the device; on the CPU no copy.

    From pinned memory: from any other, torch lets the host wait until the stream has done all that
    was enqueued before, the whole training step among it, and the GPU then stands still until the
    host has caught up.
    """
    tensor = torch.from_numpy(values)
    if device.type != "cuda":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)
