"""The `host` executor: streaming on CPU cores.

DALI decodes JPEGs, only the regions that are needed. Raw pixels are read from the mapped beton.
`render` does the rest.

In: requests. Out: batches on the device. They go through pinned memory if the device is a GPU.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from threading import Lock

import numpy as np
import numpy.typing as npt

from slipform.pipelines.beton import JPG, RAW, Beton
from slipform.pipelines.decoding.decoder import (
    MOST_AT_ONCE,
    Decoder,
    images_at_once,
    threads_to_decode,
)
from slipform.pipelines.decoding.integrity import FirstRead
from slipform.pipelines.decoding.pixels import Pixels
from slipform.pipelines.executors.contract import Executor
from slipform.pipelines.plan.plan import Plan
from slipform.pipelines.rendering.pool import RenderPool
from slipform.pipelines.rendering.region import decode_scales, regions_needed
from slipform.pipelines.rendering.request import BatchRequest, Rendered, Settings

__all__ = ["HostExecutor", "build"]


class HostExecutor(Executor):
    """See `Executor`. Each thread decodes a few images and then renders them.

    No thread waits for another. There are `depth` buffers, and the consumer holds one of them. A
    buffer takes 77 MB for 128 images at 224 px in float32.

    Args:
        beton: The stored images.
        settings: The settings of the executor.
    """

    name = "host"

    def __init__(self, beton: Beton, settings: Settings) -> None:
        self.depth = settings.depth
        self._beton, self._first_read = beton, FirstRead(beton, settings.on_bad)
        self._decoder = Decoder(MOST_AT_ONCE)
        threads = settings.threads
        # Raw images need less work, so a part may hold more of them.
        self._part = max(MOST_AT_ONCE, settings.batch_size // (2 * threads))
        self._decodes = bool((beton.modes == JPG).any())
        self._scales = settings.decode_scale == "auto"
        if self._decodes:
            threads = threads_to_decode(threads)
        self._pool = RenderPool(settings, max(2, self.depth), threads)
        self._seconds, self._lock = {"read_seconds": 0.0, "decode_seconds": 0.0}, Lock()

    def submit(self, request: BatchRequest) -> None:
        """See `Executor`."""
        part, at = self._part, request.indices
        if self._decodes:
            part = images_at_once(self._beton.heights[at], self._beton.widths[at])
        self._pool.begin_reading(len(request), partial(self._read, request), part)

    def collect(self) -> Rendered:
        """See `Executor`."""
        self._beton.release_pages()
        return self._pool.collect()

    def reset(self) -> None:
        """See `Executor`."""
        self._pool.reset()

    def stats(self) -> dict[str, float]:
        """See `Executor`."""
        return {**self._seconds, "augment_seconds": self._pool.seconds}

    def close(self) -> None:
        """See `Executor`."""
        self._pool.close()

    def _read(self, request: BatchRequest, at: slice) -> tuple[Plan, Pixels]:
        """Plan and pixels of a part of a request, in the thread that renders them."""
        part = request.part(at)
        plan = part.plan()
        began = time.perf_counter()
        damaged = self._first_read.bad(part.indices)
        read = time.perf_counter()
        pixels = self._decode(part.indices, plan)
        with self._lock:
            self._seconds["read_seconds"] += read - began
            self._seconds["decode_seconds"] += time.perf_counter() - read
        return plan, replace(pixels, bad=tuple(sorted({*damaged, *pixels.bad})))

    def _decode(self, indices: npt.NDArray[np.int64], plan: Plan) -> Pixels:
        """The pixels of samples: raw ones from the mapped file, JPEGs decoded."""
        beton = self._beton
        stored = Pixels(
            beton.data.ctypes.data + beton.offsets[indices],
            beton.heights[indices],
            beton.widths[indices],
            owner=beton,
        )
        at = np.flatnonzero(beton.modes[indices] != RAW)
        if not len(at):
            return stored
        regions = regions_needed(plan, stored.heights, stored.widths)
        scales = None
        if self._scales:
            scales = decode_scales(plan, stored.heights, stored.widths)[at]
        jpegs = [beton.bytes_of(i) for i in indices[at]]
        decoded = self._decoder.decode(jpegs, regions[at], scales)
        bad = tuple(self._first_read.undecodable(indices, [int(at[k]) for k in decoded.bad]))
        if len(at) == len(indices):
            return replace(decoded, bad=bad)
        stored = replace(
            stored,
            origin=np.zeros((len(indices), 2), np.int32),
            scales=np.ones(len(indices), np.int32),
            bad=bad,
            owner=(beton, decoded),
        )
        for name in ("addresses", "heights", "widths", "origin", "scales"):
            if getattr(decoded, name) is not None:
                getattr(stored, name)[at] = getattr(decoded, name)
        return stored


def build(beton: Beton, settings: Settings) -> Executor:
    """Build the executor.

    Args:
        beton: The stored images.
        settings: The settings of the executor.
    """
    return HostExecutor(beton, settings)
