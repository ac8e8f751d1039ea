"""The `host` executor: streaming on CPU cores. JPEGs are decoded (only the region needed) by DALI, raw pixels are read
where they lie in the mapped beton, and `render` does the rest.

In: jobs. Out: batches on the device, through pinned memory where that is a GPU.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from threading import Semaphore

import numpy as np
from torch import Tensor

from pipelines.beton import JPG, RAW, Beton
from pipelines.executors.check import FirstRead
from pipelines.executors.decode import Decoder
from pipelines.executors.job import Job, Rendered, Settings
from pipelines.executors.pool import Pictures, RenderPool
from pipelines.executors.region import regions_needed

_NUM_BUFFERS = 2
_LET_GO_EVERY = 8  # batches


class HostExecutor:
    """See `Executor`. One thread decodes batch after batch, `threads` render; both at once.

    Two output buffers do: one is being rendered while the consumer has the other, and the batch behind them is being decoded.
    A batch of 128 at 224 px in float32 takes 77 MB.
    """

    name = "host"

    def __init__(self, beton: Beton, settings: Settings) -> None:
        self.depth = settings.depth
        self._beton, self._first_read = beton, FirstRead(beton, settings.on_bad)
        self._pool = RenderPool(settings, _NUM_BUFFERS)
        self._free = Semaphore(_NUM_BUFFERS)
        self._handed_out = self._closed = False
        self._decoder = Decoder(settings.batch_size, settings.threads) if (beton.modes == JPG).any() else None
        self._coordinator = ThreadPoolExecutor(1, thread_name_prefix="slipform-decode")
        self._jobs: deque[Future[tuple[Callable[[], Tensor], list[int]]]] = deque()
        self._seconds = {"read_seconds": 0.0, "decode_seconds": 0.0}
        self._num_batches = 0

    def submit(self, job: Job) -> None:
        self._jobs.append(self._coordinator.submit(self._begin, job))

    def collect(self) -> Rendered:
        if self._handed_out:  # that batch is not needed any more
            self._free.release()
            self._handed_out = False
        wait, bad = self._jobs.popleft().result()
        self._handed_out = True
        return Rendered(wait(), bad)

    def stats(self) -> dict[str, float]:
        return {**self._seconds, "augment_seconds": self._pool.seconds}

    def close(self) -> None:
        self._closed = True
        self._free.release(self.depth)  # whoever waits for a buffer goes on, and drops its job
        self._coordinator.shutdown(wait=True, cancel_futures=True)
        self._pool.close()
        self._jobs.clear()

    def _begin(self, job: Job) -> tuple[Callable[[], Tensor], list[int]]:
        began = time.perf_counter()
        bad = self._first_read.bad(job.indices)
        read = time.perf_counter()
        pictures, undecodable = self._pictures(job)
        self._seconds["read_seconds"] += read - began
        self._seconds["decode_seconds"] += time.perf_counter() - read
        self._num_batches += 1
        if self._num_batches % _LET_GO_EVERY == 0:
            self._beton.let_go()
        self._free.acquire()
        if self._closed:  # the buffer may be the one that the consumer still has
            raise CancelledError
        return self._pool.start(pictures, job.plan), sorted({*bad, *undecodable})

    def _pictures(self, job: Job) -> tuple[Pictures, list[int]]:
        beton, indices = self._beton, job.indices
        raw = beton.modes[indices] == RAW
        base = beton.data.ctypes.data
        stored = Pictures(
            base + beton.offsets[indices],
            beton.heights[indices],
            beton.widths[indices],
            np.zeros((len(indices), 2), np.int32),
            beton,
        )
        if raw.all():
            return stored, []
        assert self._decoder is not None
        at = np.flatnonzero(~raw)
        regions = regions_needed(job.plan, beton.heights[indices], beton.widths[indices])[at]
        decoded, undecodable = self._decoder.decode([beton.bytes_of(i) for i in indices[at]], regions)
        bad = self._first_read.undecodable(indices, [int(at[k]) for k in undecodable])
        if len(at) == len(indices):
            return decoded, bad
        for name in ("addresses", "heights", "widths", "origin"):
            getattr(stored, name)[at] = getattr(decoded, name)
        return Pictures(stored.addresses, stored.heights, stored.widths, stored.origin, (stored, decoded)), bad
