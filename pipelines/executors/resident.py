"""The `resident` executor decodes every image once and keeps it as uint8. Epochs only render.

In: requests. Out: batches in memory. This form is for CPU cores. `resident_gpu` keeps the pixels in
the memory of a GPU.
"""

from __future__ import annotations

import time

import numpy as np

from slipform.pipelines.beton import Beton
from slipform.pipelines.decoding.integrity import FirstRead
from slipform.pipelines.decoding.pixels import Pixels
from slipform.pipelines.decoding.preload import Decoded, decode_all
from slipform.pipelines.executors.contract import Executor
from slipform.pipelines.rendering.pool import RenderPool
from slipform.pipelines.rendering.request import BatchRequest, Rendered, Settings

__all__ = ["ResidentExecutor", "build"]


class ResidentExecutor(Executor):
    """See `Executor`. `settings.threads` threads render the pixels that are in memory.

    Args:
        beton: The stored images.
        settings: The settings of the executor.

    Raises:
        SampleError: on_bad is "error" and a sample cannot be read.
    """

    name = "resident"
    checks_files = True  # raw pixels are rendered from the mapped files

    def __init__(self, beton: Beton, settings: Settings) -> None:
        self.depth = settings.depth
        self._beton = beton
        began = time.perf_counter()
        first_read = FirstRead(beton, settings.on_bad)
        shared = settings.world_size > 1
        decoded = decode_all(beton, settings.threads, first_read, shared=shared)
        self._decoded: Decoded | None = decoded
        self._some_are_bad = bool(decoded.bad.any())
        self.resident_bytes = decoded.buffer.nbytes
        self._load_seconds = time.perf_counter() - began
        # Buffers for the batches under way and for the one that the consumer holds.
        self._pool = RenderPool(settings, self.depth + 1)

    def submit(self, request: BatchRequest) -> None:
        """See `Executor`."""
        decoded, at = self._decoded, request.indices
        assert decoded is not None, "the executor is closed"
        bad = np.flatnonzero(decoded.bad[at]).tolist() if self._some_are_bad else ()
        pixels = Pixels(
            decoded.addresses[at], *self._beton.shapes.of(at), bad=tuple(bad), owner=decoded
        )
        self._pool.begin(request.plan(), pixels, request.check)

    def collect(self) -> Rendered:
        """See `Executor`."""
        return self._pool.collect()

    def reset(self) -> None:
        """See `Executor`."""
        self._pool.reset()

    def stats(self) -> dict[str, float]:
        """See `Executor`."""
        return {"load_seconds": self._load_seconds, "augment_seconds": self._pool.seconds}

    def close(self) -> None:
        """See `Executor`. The memory of the pixels is freed."""
        self._pool.close()
        self._decoded = None


def build(beton: Beton, settings: Settings) -> Executor:
    """Build the executor. On a GPU the pixels stay in its memory.

    Args:
        beton: The stored images.
        settings: The settings of the executor.
    """
    if settings.device.type != "cuda":
        return ResidentExecutor(beton, settings)
    from slipform.pipelines.executors.resident_gpu import ResidentGpuExecutor

    return ResidentGpuExecutor(beton, settings)
