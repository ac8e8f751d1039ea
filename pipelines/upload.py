"""Small tables of numbers on their way to the device: `upload(values, device)`, or several in one
transfer.

In: arrays in memory. Out: tensors on the device, there as soon as work enqueued later on the same
stream needs them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
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


def upload_together(arrays: list[npt.NDArray[Any]], device: torch.device) -> list[Tensor]:
    """Each array as a tensor on the device, all in one transfer; on the CPU no copy.

    Each begins at a multiple of 16 bytes.
    """
    if device.type != "cuda":
        return [torch.from_numpy(array) for array in arrays]
    ends = np.cumsum([-(-array.nbytes // 16) * 16 for array in arrays])
    packed = np.empty(int(ends[-1]), np.uint8)
    starts = [
        int(end) - -(-array.nbytes // 16) * 16 for end, array in zip(ends, arrays, strict=True)
    ]
    for start, array in zip(starts, arrays, strict=True):
        packed[start : start + array.nbytes] = array.reshape(-1).view(np.uint8)
    there = upload(packed, device)
    return [
        there[start : start + array.nbytes].view(torch.from_numpy(array).dtype).view(array.shape)
        for start, array in zip(starts, arrays, strict=True)
    ]
