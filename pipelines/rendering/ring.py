"""The outputs of an executor in the memory of a device: `OutputRing`, buffers used in turn.

In: settings. Out: slots to fill, and the images of filled slots. On a GPU they are filled on a side
stream, while the stream of the consumer computes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from slipform.pipelines.rendering.request import Settings
from slipform.pipelines.rendering.stream import SideStream

__all__ = ["OutputRing"]


class OutputRing:
    """Buffers [batch_size, S, S, 3] for batches that are made ahead, and for the consumer's batch.

    Without `settings.reuse_buffers`, a buffer that was handed out is replaced by a new one. On a
    CPU there is no stream; tests use this form.

    Args:
        settings: Size, dtype and device.
        num_slots: Number of buffers. One more than batches are made ahead.

    Attributes:
        stream: The side stream. None: the device is a CPU.
    """

    def __init__(self, settings: Settings, num_slots: int) -> None:
        size, device = settings.spec.image_size, settings.device
        shape = (settings.batch_size, size, size, 3)
        self._buffers = [
            torch.empty(shape, dtype=settings.dtype, device=device) for _ in range(num_slots)
        ]
        self._side = SideStream(device, len(self._buffers)) if device.type == "cuda" else None
        self.stream = self._side.stream if self._side else None
        self._reuse, self._next = settings.reuse_buffers, 0

    @property
    def num_bytes(self) -> int:
        """The bytes of the buffers."""
        return sum(buffer.nbytes for buffer in self._buffers)

    def take(self) -> int:
        """The slot of the next request."""
        slot = self._next
        self._next = (slot + 1) % len(self._buffers)
        return slot

    @contextmanager
    def fill(self, slot: int) -> Iterator[Tensor]:
        """Give the buffer of a slot. Within the block, work is enqueued on the side stream.

        It waits until the consumer has read the slot. A slot may be filled in several blocks, one
        after another, by different threads.

        Args:
            slot: From `take`.
        """
        if self._side is None:
            yield self._buffers[slot]
            return
        with self._side.fill(slot):
            yield self._buffers[slot]

    def hand_out(self, slot: int, count: int) -> Tensor:
        """Give a filled slot to the consumer, whose current stream waits for it.

        Args:
            slot: From `take`.
            count: Number of images in it.

        Returns:
            Images [count, 3, S, S] in channels_last. With `settings.reuse_buffers` they are valid
            until the next call.
        """
        if self._side is not None:
            self._side.hand_out(slot)
        images = self._buffers[slot]
        if not self._reuse:
            self._buffers[slot] = torch.empty_like(images)
        return images[:count].permute(0, 3, 1, 2)

    def reset(self) -> None:
        """Free all slots. No thread may fill one."""
        if self._side is not None:
            self._side.reset()
        if not self._reuse:  # the consumer may hold one of them
            self._buffers = [torch.empty_like(buffer) for buffer in self._buffers]

    def close(self) -> None:
        """Free the memory. No thread may fill a slot. A second call does nothing."""
        if self._side is not None:
            self._side.close()
        self._buffers.clear()
