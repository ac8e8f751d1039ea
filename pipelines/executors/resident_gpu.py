"""The `resident` executor on a GPU keeps all pixels in its memory as uint8.

In: requests. Out: batches, made by one Triton kernel on a side stream while the consumer computes.
Only the numbers of the Plan are copied for each batch, about 130 bytes per image. The device never
waits for the host.
"""

from __future__ import annotations

import contextlib
from collections import deque

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from slipform.pipelines.beton import Beton
from slipform.pipelines.executors.contract import Executor
from slipform.pipelines.executors.resident_pixels import ResidentPixels
from slipform.pipelines.plan.plan import Plan
from slipform.pipelines.rendering.request import BatchRequest, Rendered, Settings
from slipform.pipelines.rendering.stream import SideStream
from slipform.pipelines.rendering.taps import reduced_sizes
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
        device = settings.device
        self.pixels = ResidentPixels(beton, settings)
        self.resident_bytes = self.pixels.num_bytes
        size = settings.spec.image_size
        shape = (settings.batch_size, size, size, 3)
        self._ring = [
            torch.empty(shape, dtype=settings.dtype, device=device) for _ in range(self.depth + 1)
        ]
        self._side = SideStream(device, len(self._ring)) if device.type == "cuda" else None
        self._requests: deque[tuple[int, int, list[int]]] = deque()
        self._next = 0

    def submit(self, request: BatchRequest) -> None:
        """See `Executor`."""
        slot = self._next
        self._next = (slot + 1) % len(self._ring)
        with self._side.fill(slot) if self._side else contextlib.nullcontext():
            self._render(request, self._ring[slot])
        self._requests.append(
            (slot, len(request), np.flatnonzero(self.pixels.bad[request.indices]).tolist())
        )

    def _render(self, request: BatchRequest, out: Tensor) -> None:
        device, plan = self._settings.device, request.plan()
        floats, ints = self._numbers(request.indices, plan)
        indices, *numbers = upload_together([request.indices, floats, ints], device)
        self.pixels.render(self._settings.spec, indices, numbers[0], numbers[1], out)

    def _numbers(
        self, indices: npt.NDArray[np.int64], plan: Plan
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
        """The numbers of the Plan in the order of the kernel: float32 [N, 21] and int32 [N, 10]."""
        count = len(indices)
        floats = np.empty((count, 21), np.float32)
        floats[:, :9] = plan.geometry.reshape(count, 9)
        floats[:, 9:] = plan.color.reshape(count, 12)
        ints = np.zeros((count, 10), np.int32)
        ints[:, :4] = plan.clip
        if plan.erase is not None:
            ints[:, 4:8] = plan.erase
        if not plan.axis_aligned:
            heights, widths = self._beton.heights[indices], self._beton.widths[indices]
            ints[:, 8:] = reduced_sizes(plan.geometry, plan.image_size, heights, widths)
        return floats, ints

    def collect(self) -> Rendered:
        """See `Executor`."""
        slot, count, bad = self._requests.popleft()
        if self._side is not None:
            self._side.hand_out(slot)
        images = self._ring[slot]
        if not self._settings.reuse_buffers:
            self._ring[slot] = torch.empty_like(images)
        return Rendered(images[:count].permute(0, 3, 1, 2), bad)

    def reset(self) -> None:
        """See `Executor`."""
        self._requests.clear()
        if self._side is not None:
            self._side.reset()
        if not self._settings.reuse_buffers:  # the consumer may hold one of them
            self._ring = [torch.empty_like(buffer) for buffer in self._ring]

    def stats(self) -> dict[str, float]:
        """See `Executor`."""
        return {"load_seconds": self.pixels.load_seconds}

    def close(self) -> None:
        """See `Executor`."""
        self._requests.clear()
        if self._side is not None:
            self._side.close()
        self._ring.clear()
        self.pixels.close()
