"""The `resident` executor on a GPU keeps all pixels in its memory as uint8.

In: requests. Out: batches, made by Triton kernels on a side stream while the consumer computes.
Only the numbers of the Plan are copied for each batch, about 130 bytes per image (with a policy 60
more for each chain). The device never waits for the host.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from slipform.pipelines.beton import Beton
from slipform.pipelines.executors.contract import Executor
from slipform.pipelines.executors.resident_pixels import ResidentPixels
from slipform.pipelines.rendering.launch import pack
from slipform.pipelines.rendering.request import BatchRequest, Rendered, Settings
from slipform.pipelines.rendering.ring import OutputRing
from slipform.pipelines.upload import upload_together

__all__ = ["ResidentGpuExecutor"]


class ResidentGpuExecutor(Executor):
    """See `Executor`. With TRITON_INTERPRET=1 it also runs on a CPU, slowly, for tests.

    Args:
        beton: The stored images.
        settings: The settings of the executor.

    Raises:
        ConfigError: An image is too large for the kernel.
        SampleError: on_bad is "error" and a sample cannot be read.
    """

    name = "resident"

    def __init__(self, beton: Beton, settings: Settings) -> None:
        self.depth = settings.depth
        self._beton, self._settings = beton, settings
        self.pixels = ResidentPixels(beton, settings)
        self.resident_bytes = self.pixels.num_bytes
        self.ring = OutputRing(settings, self.depth + 1)
        self._requests: deque[tuple[int, int, list[int]]] = deque()

    def submit(self, request: BatchRequest) -> None:
        """See `Executor`."""
        slot, indices, plan = self.ring.take(), request.indices, request.plan()
        numbers = pack(plan, *self._beton.shapes.of(indices))
        with self.ring.fill(slot) as out:
            there, *numbers_there = upload_together([indices, *numbers], self._settings.device)
            self.pixels.render(self._settings.spec, there, numbers_there, out)
        bad = np.flatnonzero(self.pixels.bad[indices]).tolist()
        self._requests.append((slot, len(request), bad))

    def collect(self) -> Rendered:
        """See `Executor`."""
        slot, count, bad = self._requests.popleft()
        return Rendered(self.ring.hand_out(slot, count), bad)

    def reset(self) -> None:
        """See `Executor`."""
        self._requests.clear()
        self.ring.reset()

    def stats(self) -> dict[str, float]:
        """See `Executor`."""
        return {"load_seconds": self.pixels.load_seconds}

    def close(self) -> None:
        """See `Executor`."""
        self._requests.clear()
        self.ring.close()
        self.pixels.close()
