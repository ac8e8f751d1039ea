"""`Download`: a copy of numbers from the device to the host that runs in the background.

In: a tensor. Out: the same values on the host.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["Download"]


class Download:
    """A copy to pinned memory, enqueued on the current stream. On a CPU the values are copied now.

    Args:
        values: A tensor, which may change afterwards.
    """

    def __init__(self, values: Tensor) -> None:
        values = values.detach()
        self._event: torch.cuda.Event | None = None
        if values.device.type != "cuda":
            self._there = values.clone()
            return
        self._there = torch.empty_like(values, device="cpu", pin_memory=True)
        self._there.copy_(values, non_blocking=True)
        self._event = torch.cuda.Event()
        self._event.record(torch.cuda.current_stream(values.device))

    def result(self) -> Tensor:
        """The values on the host. Waits until they are there; any thread may call it."""
        if self._event is not None:
            self._event.synchronize()
        return self._there
