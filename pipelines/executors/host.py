"""The `host` executor: streaming on CPU cores.

Only the regions of JPEGs that are needed are decoded. Raw pixels are read from the mapped beton.
`render` does the rest.

In: requests. Out: batches on the device. They go through pinned memory if the device is a GPU.
"""

from __future__ import annotations

from functools import partial

from slipform.pipelines.beton import Beton
from slipform.pipelines.decoding.decoder import MOST_AT_ONCE, images_at_once, threads_to_decode
from slipform.pipelines.decoding.integrity import FirstRead
from slipform.pipelines.decoding.pixels import Pixels
from slipform.pipelines.executors.contract import Executor
from slipform.pipelines.plan.plan import Plan
from slipform.pipelines.rendering.pool import RenderPool
from slipform.pipelines.rendering.reading import CoreReader
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
    checks_files = True

    def __init__(self, beton: Beton, settings: Settings) -> None:
        self.depth = settings.depth
        self._beton = beton
        self._first_read = FirstRead(beton, settings.on_bad)
        self._reader = CoreReader(beton, self._first_read, settings.decode_scale == "auto")
        threads = settings.threads
        # Raw images need less work, so a part may hold more of them.
        self._part = max(MOST_AT_ONCE, settings.batch_size // (2 * threads))
        if self._reader.decodes:
            threads = threads_to_decode(threads)
        self._pool = RenderPool(settings, max(2, self.depth), threads)

    def submit(self, request: BatchRequest) -> None:
        """See `Executor`."""
        self._beton.limit_pages(request.indices)
        part, at = self._part, request.indices
        if not self._reader.decodes and self._first_read.has_read(at):
            # Nothing but the Plan is left to do, and the threads would take more time to divide it.
            self._pool.begin(*self._read(request, slice(None)), request.check)
            return
        if self._reader.decodes:
            part = images_at_once(*self._beton.shapes.of(at))
        source = partial(self._read, request)
        self._pool.begin_reading(len(request), source, part, request.check)

    def collect(self) -> Rendered:
        """See `Executor`."""
        return self._pool.collect()

    def reset(self) -> None:
        """See `Executor`."""
        self._pool.reset()

    def stats(self) -> dict[str, float]:
        """See `Executor`."""
        return {**self._reader.seconds, "augment_seconds": self._pool.seconds}

    def close(self) -> None:
        """See `Executor`."""
        self._pool.close()

    def _read(self, request: BatchRequest, at: slice) -> tuple[Plan, Pixels]:
        """Plan and pixels of a part of a request, in the thread that renders them."""
        part = request.part(at)
        plan = part.plan()
        return plan, self._reader.read(part.indices, plan)


def build(beton: Beton, settings: Settings) -> Executor:
    """Build the executor.

    Args:
        beton: The stored images.
        settings: The settings of the executor.
    """
    return HostExecutor(beton, settings)
