"""The `resident` executor: every image decoded once and kept as uint8, then only augmented, epoch after epoch.

In: jobs. Out: batches on the device. Raw betons stay where they are, in the page cache behind the mapped file; JPEGs are
decoded into one buffer when the executor is built.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from pipelines.beton import RAW, Beton
from pipelines.errors import SampleError
from pipelines.executors.decode import Decoder
from pipelines.executors.host import undecodable_error
from pipelines.executors.job import Job, Rendered
from pipelines.executors.pool import Pictures, RenderPool


class ResidentExecutor:
    """See `Executor`. The CPU form: `threads` render threads over pixels in memory."""

    name = "resident"

    def __init__(
        self,
        beton: Beton,
        *,
        batch_size: int,
        image_size: int,
        dtype: torch.dtype,
        device: torch.device,
        threads: int,
        depth: int = 2,
        on_bad: str = "error",
    ) -> None:
        self.depth = depth
        self._beton = beton
        began = time.perf_counter()
        self._addresses, self._owner, self._bad = _load(beton, threads, on_bad == "skip")
        self._load_seconds = time.perf_counter() - began
        self._pool = RenderPool(
            batch_size=batch_size, image_size=image_size, dtype=dtype, device=device, threads=threads, depth=depth
        )
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


def _load(beton: Beton, threads: int, skip_bad: bool) -> tuple[np.ndarray, object, np.ndarray]:
    """Addresses int64 [N] of all decoded images, what keeps them alive, and bool [N]: which are bad. Checks every CRC-32."""
    bad = np.zeros(len(beton), bool)
    for index in range(len(beton)):
        try:
            beton.check_crc32(index)
        except SampleError:
            if not skip_bad:
                raise
            bad[index] = True
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
        if undecodable and not skip_bad:
            raise undecodable_error(beton, int(at[undecodable[0]]))
        bad[at[undecodable]] = True
        _copy_out(decoded, pixels, starts[first : first + len(at)], set(undecodable))
    addresses[jpegs] = pixels.ctypes.data + starts[:-1]
    return addresses, (beton, pixels), bad


def _copy_out(decoded: Pictures, pixels: np.ndarray, starts: np.ndarray, skip: set[int]) -> None:
    import ctypes

    base = pixels.ctypes.data
    for i, start in enumerate(starts):
        if i not in skip:  # an undecodable image stays black
            ctypes.memmove(base + int(start), int(decoded.addresses[i]), int(decoded.heights[i]) * int(decoded.widths[i]) * 3)
