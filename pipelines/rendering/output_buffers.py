"""The buffers that render threads write to: `OutputBuffers`.

In: settings. Out: memory of each buffer in the form of the kernels, and as images for the consumer.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from slipform.pipelines.rendering.recycled import Recycled
from slipform.pipelines.rendering.request import Settings

__all__ = ["Flat", "OutputBuffers"]

Flat = npt.NDArray[np.float32] | npt.NDArray[np.uint16]  # 16-bit floats are uint16 here


class OutputBuffers:
    """Buffers of [batch_size, S, S, 3], one for each slot.

    On a GPU each buffer has a pinned counterpart in host memory, which is written to. Without
    `settings.reuse_buffers`, a buffer that was handed out is replaced by another one.

    Args:
        settings: Size, dtype and device.
        number: Number of slots.

    Attributes:
        flat: The memory of each slot, as the kernels take it.
    """

    def __init__(self, settings: Settings, number: int) -> None:
        dtype, device, size = settings.dtype, settings.device, settings.spec.image_size
        shape, pinned = (settings.batch_size, size, size, 3), device.type == "cuda"
        self._size, self._per_request = settings.batch_size, settings.per_request
        self._reuse = settings.reuse_buffers
        self._new: Callable[[], Tensor] = partial(
            torch.empty, shape, dtype=dtype, pin_memory=pinned
        )
        if not (settings.reuse_buffers or pinned):
            self._new = Recycled(shape, dtype, number + 1).take  # one more: the consumer's
        self._buffers = [self._new() for _ in range(number)]
        self.flat = [_flat(buffer) for buffer in self._buffers]
        copies = number if pinned else 0
        self._copies = [torch.empty(shape, dtype=dtype, device=device) for _ in range(copies)]
        self._images = [self._views(out) for out in self._copies or self._buffers]

    def __len__(self) -> int:
        """The number of slots."""
        return len(self._buffers)

    def copy(self, slot: int, size: int) -> None:
        """Begin to copy samples from pinned memory to the GPU.

        Args:
            slot: The slot.
            size: Number of samples.
        """
        self._copies[slot][:size].copy_(self._buffers[slot][:size], non_blocking=True)

    def hand_out(self, slot: int, size: int) -> list[Tensor]:
        """The images of a slot, for the consumer.

        Args:
            slot: The slot.
            size: Number of samples.

        Returns:
            [N, 3, S, S] in channels_last, for each batch of a request.
        """
        parts = self._images[slot]
        if not self._reuse:
            self.replace(slot)
        if size == self._size:
            return parts
        if self._per_request == 1:
            return [parts[0][:size]]
        return parts[: size * self._per_request // self._size]

    def replace(self, slot: int) -> None:
        """Put a new buffer in the place of one that the consumer may hold.

        Args:
            slot: The slot.
        """
        if self._copies:
            self._copies[slot] = torch.empty_like(self._copies[slot])
        else:
            self._buffers[slot] = self._new()
            self.flat[slot] = _flat(self._buffers[slot])
        self._images[slot] = self._views((self._copies or self._buffers)[slot])

    def _views(self, buffer: Tensor) -> list[Tensor]:
        """The memory of a buffer as images, for each batch of a request."""
        # Made once for a buffer: for each batch this took 8 us, and 45 us with full caches. Also,
        # torch lets other threads take the lock of the interpreter, and waits for it afterwards.
        images = buffer.permute(0, 3, 1, 2)
        if self._per_request == 1:
            return [images]
        # `data`: for autograd, a change in place is none of the other parts.
        return [part.data for part in images.split(self._size // self._per_request)]


def _flat(buffer: Tensor) -> Flat:
    flat = buffer.view(-1)
    array: Flat = (flat if buffer.dtype == torch.float32 else flat.view(torch.uint16)).numpy()
    return array
