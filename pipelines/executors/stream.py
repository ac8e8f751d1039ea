"""A side stream on a GPU, on which batches are made while the consumer's stream computes.

In: which ring slot is filled or handed out. Out: the right waits between the two streams, and none of the host's.
"""

from __future__ import annotations

import torch


class SideStream:
    """`fill(slot)` before work on a slot is enqueued, `hand_out(slot)` when the consumer gets it.

    Work enqueued on a slot waits only for what the consumer had enqueued when it took the batch after the one that lay there:
    by then nothing of its reads the slot any more (a batch is valid until the second next one is asked for).
    """

    def __init__(self, device: torch.device, num_slots: int) -> None:
        self.stream = torch.cuda.Stream(device)
        self._free: list[torch.cuda.Event | None] = [None] * num_slots
        self._handed_out: int | None = None

    def fill(self, slot: int) -> torch.cuda.StreamContext:
        """A context: what is enqueued in it runs on the side stream, after the slot has become free."""
        event = self._free[slot]
        if event is not None:
            self.stream.wait_event(event)
        return torch.cuda.stream(self.stream)

    def hand_out(self, slot: int) -> None:
        """The consumer's current stream goes on when the slot is filled."""
        current = torch.cuda.current_stream(self.stream.device)
        if self._handed_out is not None:
            event = torch.cuda.Event()
            event.record(current)
            self._free[self._handed_out] = event
        self._handed_out = slot
        current.wait_stream(self.stream)
