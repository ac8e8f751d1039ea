"""Threads that run `render` over parts of a batch, and the ring of buffers that they write into.

In: addresses of decoded images and their Plan. Out: one tensor per batch, on the device. `host` and `resident` use it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipelines.executors.job import Settings
from pipelines.executors.region import relative
from pipelines.executors.render import BFLOAT16, FLOAT16, FLOAT32, render
from pipelines.executors.stream import SideStream
from pipelines.executors.taps import BORDERS
from pipelines.plan import Plan

KINDS = {torch.float32: FLOAT32, torch.bfloat16: BFLOAT16, torch.float16: FLOAT16}
_LEAST_PIXELS = 1 << 17  # of output for each thread that is woken: about 0.1 ms of work, which waking it can take too
_NO_BOXES = np.zeros((0, 4), np.int32)


@dataclass(frozen=True)
class Pictures:
    """Decoded images in memory, any of them possibly a part of the stored one.

    addresses int64 [N] of contiguous uint8 [H, W, 3]; heights, widths int32 [N]; origin int32 [N, 2]: where (x, y) of the
    stored image the part begins. owner keeps the memory alive.
    """

    addresses: npt.NDArray[np.int64]
    heights: npt.NDArray[np.int32]
    widths: npt.NDArray[np.int32]
    origin: npt.NDArray[np.int32]
    owner: Any = None


class RenderPool:
    """A few threads and `num_buffers` outputs of [batch_size, S, S, 3], used in turn; on a GPU also pinned twins of them.

    The caller starts a batch only when the one that lay in its buffer, num_buffers batches before, is not needed any more.

    Reused buffers stay in the processor's cache: CIFAR-10 at batch 512 gained by it, since fresh pages cost more than the pixels.
    """

    def __init__(self, settings: Settings, num_buffers: int) -> None:
        dtype, device = settings.dtype, settings.device
        shape = (settings.batch_size, settings.spec.image_size, settings.spec.image_size, 3)
        pinned = device.type == "cuda"
        self._buffers = [torch.empty(shape, dtype=dtype, pin_memory=pinned) for _ in range(num_buffers)]
        self._copies = [torch.empty(shape, dtype=dtype, device=device) for _ in self._buffers] if pinned else []
        self._side = SideStream(device, len(self._buffers)) if pinned else None
        self._kind, self._size, self._threads = KINDS[dtype], settings.spec.image_size, settings.threads
        self._pool = ThreadPoolExecutor(settings.threads, thread_name_prefix="slipform-render")
        self._next = 0
        self.seconds = 0.0

    def start(self, pictures: Pictures, plan: Plan) -> Callable[[], Tensor]:
        """Render a batch in the background; the returned function waits for it and gives [N, 3, S, S] channels_last."""
        slot = self._next
        self._next = (slot + 1) % len(self._buffers)
        if self._side is not None:
            self._side.wait_filled(slot)  # the copy to the GPU may still read the pinned buffer
        buffer = self._buffers[slot]
        flat = buffer.view(-1)
        out32 = flat.numpy() if self._kind == FLOAT32 else np.empty(0, np.float32)
        out16 = flat.view(torch.uint16).numpy() if self._kind != FLOAT32 else np.empty(0, np.uint16)
        geometry, clip = relative(plan, pictures.origin, pictures.heights, pictures.widths)
        erase = _NO_BOXES if plan.erase is None else plan.erase
        args = (
            pictures.addresses, pictures.heights, pictures.widths, geometry, plan.color, clip, erase,
            BORDERS[plan.border], plan.axis_aligned, self._size, self._kind, out32, out16,
        )  # fmt: skip
        part = max(-(-len(plan) // (2 * self._threads)), _LEAST_PIXELS // self._size**2, 1)
        if part >= len(plan):
            self.seconds += self._render(args, 0, len(plan))
            return lambda: self._wait([], slot, len(plan), pictures)
        parts = [self._pool.submit(self._render, args, i, min(i + part, len(plan))) for i in range(0, len(plan), part)]
        return lambda: self._wait(parts, slot, len(plan), pictures)

    def _render(self, args: tuple[Any, ...], start: int, stop: int) -> float:
        began = time.perf_counter()
        render(*args, start, stop)
        return time.perf_counter() - began

    def _wait(self, parts: list[Future[float]], slot: int, count: int, pictures: Pictures) -> Tensor:
        self.seconds += sum(part.result() for part in parts)
        assert pictures is not None  # kept alive until here
        images = self._buffers[slot][:count]
        if self._side is not None:
            with self._side.fill(slot):
                self._copies[slot][:count].copy_(images, non_blocking=True)
            self._side.hand_out(slot)
            images = self._copies[slot][:count]
        return images.permute(0, 3, 1, 2)

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
