"""A side stream on a GPU, on which batches are made while the consumer's stream computes.

In: which ring slot is filled or handed out. Out: the right waits between the two streams and, for
pinned memory, the host's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


class SideStream:
    """`fill(slot)` around work that is enqueued on a slot, `hand_out(slot)` when the consumer gets
    it.

    Work enqueued on a slot waits only for what the consumer had enqueued when it asked for the
    batch after the one that lay there (a batch is valid until then). The consumer waits only for
    its own slot, not for the batches made ahead behind it.

    Slots and whatever else is filled or read on the side stream must have been allocated on the
    stream that is current here, and `close` must be called there before they are freed: torch gives
    a freed block to later work on the stream that it was allocated on.
    """

    def __init__(self, device: torch.device, num_slots: int) -> None:
        self.stream = torch.cuda.Stream(device)
        # A block that the allocator used before may still be in use there.
        self.stream.wait_stream(torch.cuda.current_stream(device))
        self._free = [torch.cuda.Event() for _ in range(num_slots)]
        self._filled = [torch.cuda.Event() for _ in range(num_slots)]
        self._handed_out: int | None = None

    @contextmanager
    def fill(self, slot: int) -> Iterator[None]:
        """What is enqueued within runs on the side stream, after the slot has become free."""
        self.stream.wait_event(self._free[slot])  # an event never recorded is no wait
        with torch.cuda.stream(self.stream):
            yield
        self._filled[slot].record(self.stream)

    def wait_filled(self, slot: int) -> None:
        """The host waits until the slot's last filling has ended: only then may it write to the
        pinned memory it came from."""
        self._filled[slot].synchronize()

    def hand_out(self, slot: int) -> None:
        """The consumer's current stream goes on when the slot is filled."""
        current = torch.cuda.current_stream(self.stream.device)
        if self._handed_out is not None:
            self._free[self._handed_out].record(current)
        self._handed_out = slot
        current.wait_event(self._filled[slot])

    def reset(self) -> None:
        """All slots become free once the consumer's current stream has done what it was given."""
        current = torch.cuda.current_stream(self.stream.device)
        current.wait_stream(self.stream)
        for event in self._free:
            event.record(current)
        self._handed_out = None

    def close(self) -> None:
        """What the current stream does from here on comes after all work on the side stream, so
        that the slots may be freed. May be called twice."""
        torch.cuda.current_stream(self.stream.device).wait_stream(self.stream)
