"""The `resident` executor on a GPU: all pixels in its memory as uint8, one Triton kernel a batch.

In: jobs. Out: batches, made on a side stream while the consumer computes. Of each batch only the
Plan's numbers travel, about 130 bytes an image, and nothing waits for the host.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque

import numpy as np
import torch
from torch import Tensor

from slipform.pipelines.beton import Beton
from slipform.pipelines.decoding.integrity import FirstRead
from slipform.pipelines.decoding.preload import decode_all
from slipform.pipelines.executors.contract import BatchRequest, Rendered, Settings
from slipform.pipelines.rendering.stream import SideStream
from slipform.pipelines.rendering.taps import BORDERS, reduced_size
from slipform.pipelines.upload import upload


class ResidentGpuExecutor:
    """See `Executor`. With TRITON_INTERPRET=1 it runs on a CPU too, slowly: so its tests need no
    GPU."""

    name = "resident"

    def __init__(self, beton: Beton, settings: Settings) -> None:
        self.depth = settings.depth
        self._beton, self._settings = beton, settings
        device = settings.device
        began = time.perf_counter()
        decoded = decode_all(
            beton, settings.threads, FirstRead(beton, settings.on_bad), one_buffer=True
        )
        self._bad = decoded.bad
        self._pixels = torch.from_numpy(decoded.buffer).to(device)
        self._offsets = torch.from_numpy(decoded.offsets).to(device)
        self._sizes = torch.from_numpy(np.stack([beton.heights, beton.widths], axis=1)).to(device)
        self._load_seconds = time.perf_counter() - began
        size = settings.spec.image_size
        shape = (settings.batch_size, size, size, 3)
        self._ring = [
            torch.empty(shape, dtype=settings.dtype, device=device) for _ in range(self.depth + 1)
        ]
        self._side = SideStream(device, len(self._ring)) if device.type == "cuda" else None
        self._jobs: deque[tuple[int, int, list[int]]] = deque()
        self._next = 0

    def submit(self, job: BatchRequest) -> None:
        slot = self._next
        self._next = (slot + 1) % len(self._ring)
        with self._side.fill(slot) if self._side else contextlib.nullcontext():
            self._render(job, self._ring[slot])
        self._jobs.append((slot, len(job), np.flatnonzero(self._bad[job.indices]).tolist()))

    def _render(self, job: BatchRequest, out: Tensor) -> None:
        import triton

        from slipform.pipelines.rendering import triton as triton_render

        plan, beton, count = job.plan, self._beton, len(job)
        erase = np.zeros((count, 4), np.int32) if plan.erase is None else plan.erase
        reduced = np.zeros((count, 2), np.int32)
        if not plan.axis_aligned:
            sizes = zip(
                plan.geometry, beton.heights[job.indices], beton.widths[job.indices], strict=True
            )
            reduced = np.array(
                [reduced_size(g, plan.image_size, h, w) for g, h, w in sizes], np.int32
            )
        numbers = self._upload(plan.geometry.reshape(count, 9), plan.color.reshape(count, 12))
        boxes = self._upload(plan.clip, erase, reduced)
        at = self._upload(job.indices.reshape(-1, 1))[:, 0]
        triton_render.render[(count, triton.cdiv(plan.image_size**2, triton_render.BLOCK))](
            self._pixels,
            self._offsets[at],
            self._sizes[at],
            numbers[:, :9].contiguous(),
            numbers[:, 9:].contiguous(),
            boxes[:, :8].contiguous(),
            boxes[:, 8:].contiguous(),
            out,
            plan.image_size,
            BORDER=BORDERS[plan.border],
            ALIGNED=plan.axis_aligned,
            ERASE=plan.erase is not None,
            BLOCK=triton_render.BLOCK,
        )

    def _upload(self, *columns: np.ndarray) -> Tensor:
        """Columns side by side, in one transfer."""
        return upload(np.concatenate(columns, axis=1), self._settings.device)

    def collect(self) -> Rendered:
        slot, count, bad = self._jobs.popleft()
        if self._side is not None:
            self._side.hand_out(slot)
        images = self._ring[slot]
        if not self._settings.reuse_buffers:
            self._ring[slot] = torch.empty_like(images)
        return Rendered(images[:count].permute(0, 3, 1, 2), bad)

    def reset(self) -> None:
        self._jobs.clear()
        if self._side is not None:
            self._side.reset()
        if not self._settings.reuse_buffers:  # a buffer may have been handed out
            self._ring = [torch.empty_like(buffer) for buffer in self._ring]

    def stats(self) -> dict[str, float]:
        return {"load_seconds": self._load_seconds}

    def close(self) -> None:
        self._jobs.clear()
        self._ring.clear()
        self._pixels = self._pixels[:0]
