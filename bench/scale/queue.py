"""The time of an epoch on one worker: a queue of requests, and a step that waits for its batch.

In: requests, and what the network gives. Out: seconds. The model is deterministic, and each line of
it can be computed by hand:

- Requests are sent in their order. One is sent when fewer than `at_once` are under way, when
  `spacing` has passed since the one before, and when its bytes have room. Room becomes free at the
  end of the last batch that needs the bytes.
- `latency` seconds later the first byte is there. The bytes of all requests pass one link, one
  request after another.
- A batch begins when the one before has ended and its requests are complete, and takes
  `step_seconds`.

Latency is the same for each request, so that requests are complete in their order. All workers wait
for the slowest one in each step; this model has one worker, and thus gives a lower bound.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from slipform.bench.scale.reads import Requests
from slipform.pipelines.errors import ConfigError

__all__ = ["Link", "Times", "epoch_times"]


class Link(NamedTuple):
    """What the network and the object store give one worker.

    Attributes:
        latency: Seconds from a request to its first byte.
        bandwidth: Bytes/s.
        at_once: Requests at the same time.
        spacing: Seconds between two requests, at least.
    """

    latency: float
    bandwidth: float
    at_once: int
    spacing: float


class Times(NamedTuple):
    """The times of an epoch, in seconds.

    Attributes:
        first: Until the first batch begins.
        waiting: Waiting for later batches.
        whole: The whole epoch.
    """

    first: float
    waiting: float
    whole: float


def epoch_times(
    requests: Requests, num_batches: int, step_seconds: float, link: Link, room: float
) -> Times:
    """Simulate an epoch.

    Args:
        requests: Its requests, sorted by `first`.
        num_batches: The number of batches.
        step_seconds: Seconds of a step whose batch is there.
        link: The network.
        room: Bytes of samples that the worker holds, at most.

    Raises:
        ConfigError: The room is too small for a batch and the requests that come before it.
    """
    freed = np.bincount(requests.last, requests.sizes, num_batches).tolist()
    # How many requests must be complete before each batch.
    needed = np.searchsorted(requests.first, np.arange(num_batches), "right").tolist()
    sizes, done, ends = requests.sizes.tolist(), list[float](), list[float]()
    waiting, held, free, start = 0.0, 0.0, 0, -link.spacing

    def run_batch() -> None:
        """The next batch. All of its requests are sent."""
        nonlocal waiting
        number, before = len(ends), ends[-1] if ends else 0.0
        ready = done[needed[number] - 1] if needed[number] else 0.0
        waiting += max(0.0, ready - before) if number else 0.0
        ends.append(max(before, ready) + step_seconds)

    for number, size in enumerate(sizes):
        start += link.spacing
        if number >= link.at_once:
            start = max(start, done[number - link.at_once])
        while held + size > room:
            if free == num_batches or needed[free] > number:
                raise ConfigError(
                    f"a worker holds {room:,.0f} bytes at most, and batch {free} needs more: give"
                    " a larger --ahead-bytes, or a smaller --batch-size"
                )
            while len(ends) <= free:
                run_batch()
            start = max(start, ends[free])
            held -= freed[free]
            free += 1
        held += size
        before = done[-1] if done else 0.0
        done.append(max(before, start + link.latency) + size / link.bandwidth)
    while len(ends) < num_batches:
        run_batch()
    return Times(ends[0] - step_seconds, waiting, ends[-1])
