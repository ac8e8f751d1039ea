"""A side stream on a GPU: batches are made on it while the stream of the consumer computes.

In: the slot of the ring that is filled or handed out. Out: the necessary waits between the two
streams and, for pinned memory, of the host.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["SideStream"]


class SideStream:
    """Orders the work of a side stream and of the consumer's stream, slot by slot.

    Enqueue the work that fills a slot inside `fill`, and call `hand_out` when the consumer gets it.
    A batch is valid until the consumer asks for the next one. Work on its slot waits for what the
    consumer had enqueued by then. The consumer waits for its own slot only, and not for the batches
    that are made ahead.

    The memory that is used on the side stream must be allocated on the stream that is current at
    construction: torch gives freed memory to later work on the stream where it was allocated. So
    `close`, which waits for the side stream, must be called before the memory is freed.

    Args:
        device: The GPU.
        num_slots: Number of slots.

    Attributes:
        stream: The side stream.
    """

    def __init__(self, device: torch.device, num_slots: int) -> None:
        self.stream = torch.cuda.Stream(device)
        # Earlier work on the current stream may still use the memory of the slots.
        self.stream.wait_stream(torch.cuda.current_stream(device))
        self._free = [torch.cuda.Event() for _ in range(num_slots)]
        self._filled = [torch.cuda.Event() for _ in range(num_slots)]
        self._handed_out: int | None = None

    @contextmanager
    def fill(self, slot: int) -> Iterator[None]:
        """Within the block, work is enqueued on the side stream. It waits until the slot is free.

        Args:
            slot: Number of the slot.
        """
        self.stream.wait_event(self._free[slot])  # there is no wait for an event not recorded yet
        with torch.cuda.stream(self.stream):
            yield
        self._filled[slot].record(self.stream)

    def wait_filled(self, slot: int) -> None:
        """Block the host until the slot is filled.

        After that the host may write again to the pinned memory from which it was filled.

        Args:
            slot: Number of the slot.
        """
        self._filled[slot].synchronize()

    def hand_out(self, slot: int) -> None:
        """Give a slot to the consumer. Its current stream waits until the slot is filled.

        Args:
            slot: Number of the slot.
        """
        current = torch.cuda.current_stream(self.stream.device)
        if self._handed_out is not None:
            self._free[self._handed_out].record(current)
        self._handed_out = slot
        current.wait_event(self._filled[slot])

    def reset(self) -> None:
        """Free all slots, as soon as the consumer's current stream has done its present work."""
        current = torch.cuda.current_stream(self.stream.device)
        current.wait_stream(self.stream)
        for event in self._free:
            event.record(current)
        self._handed_out = None

    def close(self) -> None:
        """Wait for all work on the side stream.

        After that the memory of the slots may be freed. Any thread may call this: the stream of the
        consumer is not the current one of other threads. A second call does no harm.
        """
        self.stream.synchronize()
