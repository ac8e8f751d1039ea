"""Threads that make batches part by part, and the ring of buffers that they write into.

In: a Plan and its images' pixels, or a source of them. Out: batches on the device, in the order
they were begun. `resident` and `host` use it: the one has the pixels, the other has a source.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from slipform.pipelines.decoding.pixels import Pixels
from slipform.pipelines.plan.plan import Plan
from slipform.pipelines.rendering.region import relative
from slipform.pipelines.rendering.render import BFLOAT16, FLOAT16, FLOAT32, render
from slipform.pipelines.rendering.request import Rendered, Settings
from slipform.pipelines.rendering.stream import SideStream
from slipform.pipelines.rendering.taps import BORDERS
from slipform.pipelines.rendering.workers import Gate, Task, Workers

__all__ = ["RenderPool", "Source"]

KINDS = {torch.float32: FLOAT32, torch.bfloat16: BFLOAT16, torch.float16: FLOAT16}
# Of output for each thread that is woken: about 0.1 ms of work. To wake a thread can take as long.
_LEAST_PIXELS = 1 << 17
_NO_BOXES = np.zeros((0, 4), np.int32)

Source = Callable[[slice], Pixels]  # which samples of the batch -> their pixels
RenderSome = Callable[[int, int], None]  # start, stop


class _Dropped(Exception):
    """The end of a task that waited for a buffer in a batch that was dropped."""


@dataclass
class _Batch:
    slot: int
    size: int
    buffer_free: Gate | None  # None: free from the start
    parts: list[Task[float]] = field(default_factory=list)  # seconds of rendering
    seconds: float = 0.0
    bad: list[int] = field(default_factory=list)


class RenderPool:
    """`num_threads` threads and `num_buffers` outputs of [batch_size, S, S, 3], used in turn; on a
    GPU also pinned twins of them. Without `settings.reuse_buffers` an output that was handed out
    is replaced by a new one.

    A thread that reads a part renders it, too: the pixels are still in its cache, no thread waits
    for another, and there is never more than one part for each thread. Reused buffers stay in the
    cache too: CIFAR-10 at batch 512 gained by it, since fresh pages cost more than the pixels.
    """

    def __init__(self, settings: Settings, num_buffers: int, num_threads: int = 0) -> None:
        dtype, device = settings.dtype, settings.device
        shape = (settings.batch_size, settings.spec.image_size, settings.spec.image_size, 3)
        self._device, pinned = device, device.type == "cuda"
        self._buffers = [
            torch.empty(shape, dtype=dtype, pin_memory=pinned) for _ in range(num_buffers)
        ]
        self._copies = (
            [torch.empty(shape, dtype=dtype, device=device) for _ in self._buffers]
            if pinned
            else []
        )
        self._side = SideStream(device, len(self._buffers)) if pinned else None
        self._kind, self._size = KINDS[dtype], settings.spec.image_size
        self._num_threads = num_threads or settings.threads
        self._reuse_buffers = settings.reuse_buffers
        self._workers = Workers(self._num_threads, "slipform-render")
        self._batches: deque[_Batch] = deque()  # begun, not yet collected
        self._waiting: deque[_Batch] = deque()  # those of them without a buffer
        self._next, self._num_free = 0, num_buffers
        self._handed_out = self._closed = False
        self.seconds = 0.0
        if pinned:
            # A thread waits for events of the batches' device; on a thread that was given none,
            # that would open a context on GPU 0, of 300 to 500 MB.
            index = torch.cuda.current_device() if device.index is None else device.index
            self._workers.on_every_thread(partial(torch.cuda.set_device, index))

    def begin(self, plan: Plan, pixels: Pixels) -> None:
        """Start a batch whose pixels are there: here and now where it is so small that waking
        threads does not pay."""
        batch = self._new_batch(len(plan))
        batch.bad.extend(pixels.bad)
        render_some = self._renderer(pixels, plan, self._buffers[batch.slot])
        least = _LEAST_PIXELS // self._size**2
        if len(plan) <= max(least, 1) and batch.buffer_free is None:
            batch.seconds = self._render(batch, render_some, 0, len(plan))
            return
        part = max(-(-len(plan) // self._num_threads), least)
        for start in range(0, len(plan), part):
            stop = min(start + part, len(plan))
            call = partial(self._render, batch, render_some, start, stop)
            batch.parts.append(self._workers.submit(call))

    def begin_reading(self, plan: Plan, source: Source, part: int) -> None:
        """Start a batch whose pixels `source` makes, on the thread that renders them, `part` images
        at a time."""
        batch = self._new_batch(len(plan))
        for start in range(0, len(plan), part):
            at = slice(start, min(start + part, len(plan)))
            call = partial(self._read_and_render, batch, plan, source, at)
            batch.parts.append(self._workers.submit(call))

    def _new_batch(self, size: int) -> _Batch:
        batch = _Batch(self._next, size, None if self._num_free else Gate())
        self._next = (self._next + 1) % len(self._buffers)
        if self._num_free:
            self._num_free -= 1
        else:
            self._waiting.append(batch)
        self._batches.append(batch)
        return batch

    def collect(self) -> Rendered:
        """Wait for the oldest batch: [N, 3, S, S] channels_last on the device. The one before it is
        not valid any more."""
        if self._handed_out:
            self._handed_out = False
            if self._waiting:
                self._free(self._waiting[0])
                self._waiting.popleft()
            else:
                self._num_free += 1
        batch = self._batches[0]
        self.seconds += batch.seconds + sum(part.result() for part in batch.parts)
        self._batches.popleft()
        self._handed_out = True
        return Rendered(self._on_device(batch), sorted(batch.bad))

    def _read_and_render(self, batch: _Batch, plan: Plan, source: Source, at: slice) -> float:
        pixels = source(at)  # before there may be a buffer, so that something is ready then
        batch.bad.extend([at.start + i for i in pixels.bad])
        self._wait_for_buffer(batch)
        buffer = self._buffers[batch.slot][at]
        render_some = self._renderer(pixels, plan.part(at), buffer)
        return self._render(batch, render_some, 0, at.stop - at.start)

    def _render(self, batch: _Batch, render_some: RenderSome, start: int, stop: int) -> float:
        """Render once the batch has its buffer. Returns the seconds that the rendering took."""
        self._wait_for_buffer(batch)
        began = time.perf_counter()
        render_some(start, stop)
        return time.perf_counter() - began

    def _wait_for_buffer(self, batch: _Batch) -> None:
        if batch.buffer_free is not None:
            batch.buffer_free.wait()
        if self._closed:
            raise _Dropped
        if self._side is not None:  # the copy to the GPU may still read the pinned buffer
            self._side.wait_filled(batch.slot)

    def _renderer(self, pixels: Pixels, plan: Plan, buffer: Tensor) -> RenderSome:
        """`render` for pixels and their Plan, into a buffer [N, S, S, 3]; it keeps the pixels
        alive."""
        flat = buffer.view(-1)
        out32 = flat.numpy() if self._kind == FLOAT32 else np.empty(0, np.float32)
        out16 = flat.view(torch.uint16).numpy() if self._kind != FLOAT32 else np.empty(0, np.uint16)
        geometry, clip = plan.geometry, plan.clip
        if pixels.origin is not None:
            geometry, clip = relative(plan, pixels.origin, pixels.heights, pixels.widths)
        erase = _NO_BOXES if plan.erase is None else plan.erase
        arguments = (
            pixels.addresses,
            pixels.heights,
            pixels.widths,
            geometry,
            plan.color,
            clip,
            erase,
            BORDERS[plan.border],
            plan.axis_aligned,
            self._size,
            self._kind,
            out32,
            out16,
        )

        def render_some(start: int, stop: int, keep: Any = pixels.owner) -> None:
            render(*arguments, start, stop)

        return render_some

    def _on_device(self, batch: _Batch) -> Tensor:
        outputs = self._buffers
        if self._side is not None:
            outputs = self._copies
            pinned = self._buffers[batch.slot][: batch.size]
            with self._side.fill(batch.slot):
                outputs[batch.slot][: batch.size].copy_(pinned, non_blocking=True)
            self._side.hand_out(batch.slot)
        images = outputs[batch.slot]
        if not self._reuse_buffers:
            outputs[batch.slot] = torch.empty_like(images)
        return images[: batch.size].permute(0, 3, 1, 2)

    def reset(self) -> None:
        """Drop what is under way and return to the state after construction, whatever an exception
        left behind, one in here included."""
        self._drop()
        self._workers.settle()
        self._waiting.clear()
        self._batches.clear()
        self._next, self._num_free = 0, len(self._buffers)
        self._handed_out = False
        if self._side is not None:
            self._side.reset()
        if not self._reuse_buffers:  # the consumer may have one of them
            outputs = self._buffers if self._side is None else self._copies
            outputs[:] = [torch.empty_like(buffer) for buffer in outputs]
        self._closed = False

    def close(self) -> None:
        """Drop what is under way and end the threads. A second call does nothing."""
        self._drop()
        self._workers.close()
        self._batches.clear()
        if self._side is not None:
            self._side.close()

    def _drop(self) -> None:
        """No task waits or begins to render from here on."""
        self._closed = True
        self._workers.drop()
        for batch in (*self._waiting, *self._batches):
            self._free(batch)

    @staticmethod
    def _free(batch: _Batch) -> None:
        if batch.buffer_free is not None:
            batch.buffer_free.open()
