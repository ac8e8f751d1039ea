"""Copies of small arrays to the device: `upload` for one, `upload_together` for several.

In: arrays in host memory. Out: tensors on the device. Work that is enqueued later on the same
stream sees their values.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from slipform.pipelines.errors import ConfigError

__all__ = ["checked_device", "upload", "upload_together"]


def upload(values: npt.NDArray[Any] | Tensor, device: torch.device) -> Tensor:
    """Copy an array to the device, without blocking.

    The copy starts from pinned memory. From other memory, torch blocks the host until the stream
    has finished all earlier work, which includes the training step. The GPU would then be idle
    until the host has enqueued new work.

    Args:
        values: The array, or a tensor on the CPU; contiguous.
        device: The device.

    Returns:
        A tensor of the same shape and dtype. On a CPU it shares the memory of `values`.
    """
    tensor = values if isinstance(values, Tensor) else torch.from_numpy(values)
    if device.type != "cuda":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)


def upload_together(arrays: list[npt.NDArray[Any]], device: torch.device) -> list[Tensor]:
    """Copy several arrays to the device in one transfer, without blocking.

    Args:
        arrays: The arrays, contiguous.
        device: The device.

    Returns:
        A tensor for each array, of its shape and dtype. On a CPU it shares the array's memory. On a
        GPU it is a view of one buffer, aligned to 16 bytes.
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


def checked_device(device: torch.device | str, dtype: torch.dtype) -> torch.device:
    """The device of a loader's batches.

    Args:
        device: "cpu", "cuda" or "cuda:N".
        dtype: The type of the images.

    Raises:
        ConfigError: There is no such device here, or images cannot have that type.
    """
    if dtype not in (torch.float32, torch.bfloat16, torch.float16):
        raise ConfigError(f"dtype = {dtype}: give torch.float32, torch.bfloat16 or torch.float16")
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError, ValueError):
        found = torch.device("meta")
    if found.type not in ("cpu", "cuda"):
        raise ConfigError(f'device = "{device}": give "cpu", "cuda" or "cuda:N"')
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f'device = "{device}": torch sees {torch.cuda.device_count()} GPUs here')
    return found
