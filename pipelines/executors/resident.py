"""The `resident` executor: every image decoded once and kept as uint8, then only augmented, epoch
after epoch.

In: jobs. Out: batches in memory. This is the form for CPU cores; `resident_gpu` keeps the pixels in
a GPU's memory.
"""

from __future__ import annotations

import time

import numpy as np

from slipform.pipelines.beton import Beton
from slipform.pipelines.decoding.integrity import FirstRead
from slipform.pipelines.decoding.preload import decode_all
from slipform.pipelines.executors.contract import BatchRequest, Rendered, Settings
from slipform.pipelines.rendering.pool import Pictures, RenderPool


class ResidentExecutor:
    """See `Executor`. `threads` render threads over pixels in memory."""

    name = "resident"

    def __init__(self, beton: Beton, settings: Settings) -> None:
        self.depth = settings.depth
        self._beton = beton
        began = time.perf_counter()
        self._decoded = decode_all(beton, settings.threads, FirstRead(beton, settings.on_bad))
        self._load_seconds = time.perf_counter() - began
        self._pool = RenderPool(
            settings, self.depth + 1
        )  # those under way and the one that the consumer has

    def submit(self, job: BatchRequest) -> None:
        decoded, at = self._decoded, job.indices
        bad = tuple(np.flatnonzero(decoded.bad[at]).tolist())
        pictures = Pictures(
            decoded.addresses[at],
            self._beton.heights[at],
            self._beton.widths[at],
            bad=bad,
            owner=decoded,
        )
        self._pool.begin(job.plan, pictures)

    def collect(self) -> Rendered:
        return self._pool.collect()

    def reset(self) -> None:
        self._pool.reset()

    def stats(self) -> dict[str, float]:
        return {"load_seconds": self._load_seconds, "augment_seconds": self._pool.seconds}

    def close(self) -> None:
        self._pool.close()
