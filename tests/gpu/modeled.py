"""A model of CUDA's streams. A stream is a list of operations, and each operation waits for others.
Every order that respects them is possible.

In: calls as of torch.cuda. Out: the operations, and which of them follow which.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import local
from typing import Any, ClassVar

import torch

__all__ = ["GPU", "Event", "Gpu", "Stream", "Work"]

GPU = torch.device("cuda", 0)


class Work:
    """One operation on a stream."""

    def __init__(self, after: list[Work]) -> None:
        self.after = after

    def follows(self, other: Work) -> bool:
        waiting, seen = [self], set()
        while waiting:
            work = waiting.pop()
            if work is other:
                return True
            if id(work) not in seen:
                seen.add(id(work))
                waiting += work.after
        return False


class Stream:
    finished: ClassVar[list[Work]] = []  # the host waited for it: all later work follows

    def __init__(self, device: Any = None) -> None:
        self.device, self.last = GPU, Work([])
        self.awaited: list[Any] = []

    def enqueue(self) -> Work:
        self.last, self.awaited = Work([self.last, *self.awaited, *self.finished]), []
        return self.last

    def wait_event(self, event: Event) -> None:
        self.awaited += [event.work] if event.work else []

    def wait_stream(self, other: Stream) -> None:
        self.awaited.append(other.last)

    def synchronize(self) -> None:
        Stream.finished.append(self.last)


class Event:
    def __init__(self) -> None:
        self.work: Work | None = None

    def record(self, on: Stream) -> None:
        self.work = on.enqueue()

    def synchronize(self) -> None:
        pass


class Gpu:
    """The current streams, and the fills and reads of each slot."""

    def __init__(self) -> None:
        self._first, self._own = Stream(), local()
        self.uses: list[tuple[int, str, Work]] = []  # slot, "fill" or "read"
        self.devices: list[Any] = []

    @property
    def current(self) -> Stream:
        """The current stream of this thread."""
        return getattr(self._own, "stream", self._first)

    @contextmanager
    def stream(self, chosen: Stream) -> Iterator[None]:
        before, self._own.stream = self.current, chosen
        yield
        self._own.stream = before

    def work(self) -> Work:
        return self.current.enqueue()
