"""The `resident` executor: every image decoded once and kept as uint8, then only augmented, epoch after epoch.

In: jobs. Out: batches on the device. Raw betons stay where they are, in the page cache behind the mapped file; JPEGs are
decoded into one buffer when the executor is built.
"""

from __future__ import annotations

import ctypes
import time
from collections import deque
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from torch import Tensor

from pipelines.beton import RAW, Beton
from pipelines.executors.check import FirstRead
from pipelines.executors.decode import Decoder
from pipelines.executors.job import Job, Rendered, Settings
from pipelines.executors.pool import Pictures, RenderPool


class ResidentExecutor:
    """See `Executor`. The CPU form: `threads` render threads over pixels in memory."""

    name = "resident"

    def __init__(self, beton: Beton, settings: Settings) -> None:
        self.depth = settings.depth
        self._beton = beton
        began = time.perf_counter()
        self._addresses, self._owner, self._bad = _load(beton, settings.threads, FirstRead(beton, settings.on_bad))
        self._load_seconds = time.perf_counter() - began
        self._pool = RenderPool(settings)
        self._jobs: deque[tuple[Callable[[], Tensor], list[int]]] = deque()

    def submit(self, job: Job) -> None:
        at = job.indices
        origin = np.zeros((len(at), 2), np.int32)
        pictures = Pictures(self._addresses[at], self._beton.heights[at], self._beton.widths[at], origin, self._owner)
        bad = np.flatnonzero(self._bad[at]).tolist() if self._bad.any() else []
        self._jobs.append((self._pool.start(pictures, job.plan), bad))

    def collect(self) -> Rendered:
        wait, bad = self._jobs.popleft()
        return Rendered(wait(), bad)

    def stats(self) -> dict[str, float]:
        return {"load_seconds": self._load_seconds, "augment_seconds": self._pool.seconds}

    def close(self) -> None:
        self._pool.close()
        self._jobs.clear()


def _load(beton: Beton, threads: int, first_read: FirstRead) -> tuple[npt.NDArray[np.int64], object, npt.NDArray[np.bool_]]:
    """Addresses int64 [N] of all decoded images, what keeps them alive, and bool [N]: which are bad. Checks every CRC-32."""
    bad = np.zeros(len(beton), bool)
    bad[first_read.bad(np.arange(len(beton)))] = True
    addresses = beton.data.ctypes.data + beton.offsets
    jpegs = np.flatnonzero(beton.modes != RAW)
    if not len(jpegs):
        return addresses, beton, bad
    num_bytes = beton.heights[jpegs].astype(np.int64) * beton.widths[jpegs] * 3
    starts = np.concatenate([[0], np.cumsum(num_bytes)])
    pixels = np.zeros(int(starts[-1]), np.uint8)
    part = 64
    decoder = Decoder(part, threads)
    for first in range(0, len(jpegs), part):
        at = jpegs[first : first + part]
        whole = np.stack([0 * at, 0 * at, beton.widths[at], beton.heights[at]], axis=1).astype(np.int32)
        decoded, undecodable = decoder.decode([beton.bytes_of(i) for i in at], whole)
        bad[at[first_read.undecodable(at, undecodable)]] = True
        _copy_out(decoded, pixels, starts[first : first + len(at)], set(undecodable))
    addresses[jpegs] = pixels.ctypes.data + starts[:-1]
    return addresses, (beton, pixels), bad


def _copy_out(decoded: Pictures, pixels: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], skip: set[int]) -> None:
    base = pixels.ctypes.data
    for i, start in enumerate(starts):
        if i not in skip:  # an undecodable image stays black
            ctypes.memmove(base + int(start), int(decoded.addresses[i]), int(decoded.heights[i]) * int(decoded.widths[i]) * 3)
