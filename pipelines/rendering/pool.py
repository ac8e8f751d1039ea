"""Render threads, and the ring of buffers that they write to.

In: Plan and pixels of a batch, or a function that gives them for some of its samples. Out: batches
on the device, in the order in which they were begun.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from slipform.pipelines.decoding.pixels import Pixels
from slipform.pipelines.plan.plan import Plan
from slipform.pipelines.rendering.output_buffers import Flat, OutputBuffers
from slipform.pipelines.rendering.prepare import prepared
from slipform.pipelines.rendering.request import SMALL_BATCH, Rendered, Settings
from slipform.pipelines.rendering.stream import SideStream
from slipform.pipelines.stores import BFLOAT16, FLOAT16, FLOAT32
from slipform.pipelines.workers import Gate, Tasks, Workers

__all__ = ["RenderPool", "Source"]

_KINDS = {torch.float32: FLOAT32, torch.bfloat16: BFLOAT16, torch.float16: FLOAT16}
_NO_IMAGES = torch.empty(0)
_NO_FLOATS, _NO_BITS = np.empty(0, np.float32), np.empty(0, np.uint16)

# Positions in the batch -> Plan and pixels of these samples.
Source = Callable[[slice], tuple[Plan, Pixels]]
_RenderInto = Callable[[Flat, int, int], None]  # output, start, stop


class _Dropped(Exception):
    """Ends a task that waits for the buffer of a batch that was dropped."""


@dataclass
class _Batch:
    slot: int
    size: int
    buffer_free: Gate  # opens when the batch before it in the same buffer is released
    released: Gate
    bad: list[int]
    rendered: Rendered | None  # without its images; None: it was collected
    check: Callable[[], None] | None  # called after each part is rendered
    parts: Tasks[float] | None = None  # seconds of rendering; None: it is rendered
    seconds: float = 0.0


class RenderPool:
    """Renders batches in threads, into buffers of [batch_size, S, S, 3] that are used in turn.

    On a GPU each buffer has a pinned counterpart in host memory. Without `settings.reuse_buffers` a
    buffer that was handed out is replaced by another one.

    The thread that reads a part of a batch also renders it. The pixels are then in its cache, no
    thread waits for another, and each thread holds one part at most.

    Args:
        settings: Size, dtype, device and threads.
        num_buffers: Number of buffers. More batches may be begun: they wait for a buffer.
        num_threads: Number of threads. 0: `settings.threads`.

    Attributes:
        seconds: Seconds of rendering since the start, over all threads.
    """

    def __init__(self, settings: Settings, num_buffers: int, num_threads: int = 0) -> None:
        device = settings.device
        self._device, pinned = device, device.type == "cuda"
        self._buffers = OutputBuffers(settings, num_buffers)
        self._side = SideStream(device, len(self._buffers)) if pinned else None
        self._kind, self._size = _KINDS[settings.dtype], settings.spec.image_size
        self._num_threads = num_threads or settings.threads
        self._reuse_buffers, self._per_request = settings.reuse_buffers, settings.per_request
        self._workers = Workers(self._num_threads, "slipform-render")
        self._batches: deque[_Batch] = deque()  # begun, not yet collected
        self._handed_out: _Batch | None = None
        # Released batches. The next call of `begin` frees them, not the consumer's thread, for
        # which the training waits.
        self._spent: deque[_Batch] = deque()
        # For each buffer, the gate of its last batch. Those in front are used next.
        self._gates: deque[tuple[int, Gate]] = deque()
        self._closed = False
        self._free_all()
        self.seconds = 0.0
        if pinned:
            # The threads wait for events of the device. Without this call they would open a context
            # on GPU 0, which takes 300 to 500 MB.
            index = torch.cuda.current_device() if device.index is None else device.index
            self._workers.on_every_thread(partial(torch.cuda.set_device, index))

    def begin(self, plan: Plan, pixels: Pixels, check: Callable[[], None] | None = None) -> None:
        """Begin a batch whose pixels are in memory.

        The arguments of the kernel are prepared here, once for the batch. Preparing them in the
        threads, for each part, took 6 to 18 % more processor time for CIFAR-10 at batch 512.
        A small batch is rendered in this call, because waking the threads would take longer.

        Args:
            plan: The Plan of N samples.
            pixels: Their pixels.
            check: Called after samples are rendered. What it raises, this method or `collect`
                raises.
        """
        size = len(plan)
        batch = self._new_batch(size, check)
        batch.bad.extend(pixels.bad)
        render_into = self._renderer(plan, pixels)
        least = max(1, SMALL_BATCH // self._size**2)
        if size <= least and batch.buffer_free.is_open():
            batch.seconds = self._render(batch, render_into, 0, 0, size)
            return
        part = max(-(-size // self._num_threads), least)
        render = partial(self._render, batch, render_into, 0)
        calls = [partial(render, at.start, at.stop) for at in _parts(size, part)]
        batch.parts = self._workers.submit_all(calls)

    def begin_reading(
        self, size: int, source: Source, part: int, check: Callable[[], None] | None = None
    ) -> None:
        """Begin a batch whose pixels are read by the threads that render them.

        Args:
            size: Number of samples.
            source: Gives Plan and pixels of some of the samples. The threads call it.
            part: Number of samples in one call of `source`.
            check: Called after each part is rendered. `collect` raises what it raises.
        """
        batch = self._new_batch(size, check)
        call = partial(self._read_and_render, batch, source)
        batch.parts = self._workers.submit_all([partial(call, at) for at in _parts(size, part)])

    def _new_batch(self, size: int, check: Callable[[], None] | None) -> _Batch:
        self._spent.clear()
        slot, gate = self._gates[0]
        bad: list[int] = []
        batch = _Batch(slot, size, gate, Gate(), bad, Rendered(_NO_IMAGES, bad), check)
        self._batches.append(batch)
        self._gates.append((slot, batch.released))
        self._gates.popleft()
        return batch

    def _free_all(self) -> None:
        self._gates.clear()
        for slot in range(len(self._buffers)):
            gate = Gate()
            gate.open()
            self._gates.append((slot, gate))

    def collect(self) -> Rendered:
        """Wait for the oldest batch.

        Returns:
            Its images. With `settings.reuse_buffers` they are valid until the next call.
        """
        if self._handed_out is not None:
            self._handed_out.released.open()
            self._spent.append(self._handed_out)
            self._handed_out = None
        batch = self._batches[0]
        self.seconds += sum(batch.parts.results()) if batch.parts is not None else batch.seconds
        self._batches.popleft()
        self._handed_out = batch
        rendered, batch.rendered = batch.rendered, None
        assert rendered is not None, "a batch is collected once"
        parts = self._on_device(batch)
        rendered.images, rendered.parts = parts[0], parts if self._per_request > 1 else ()
        rendered.bad.sort()
        return rendered

    def _read_and_render(self, batch: _Batch, source: Source, at: slice) -> float:
        plan, pixels = source(at)  # this can be done before the buffer is free
        batch.bad.extend([at.start + i for i in pixels.bad])
        return self._render(batch, self._renderer(plan, pixels), at.start, 0, len(plan))

    def _render(
        self, batch: _Batch, render_into: _RenderInto, first: int, start: int, stop: int
    ) -> float:
        """Render into the buffer, from its sample `first` on. Returns the seconds of this."""
        self._wait_for_buffer(batch)
        began = time.perf_counter()
        # Looked up only now: a buffer that was handed out is replaced by a new one.
        render_into(self._buffers.flat[batch.slot][first * 3 * self._size**2 :], start, stop)
        seconds = time.perf_counter() - began
        if batch.check is not None:
            batch.check()
        return seconds

    def _wait_for_buffer(self, batch: _Batch) -> None:
        batch.buffer_free.wait()
        if self._closed:
            raise _Dropped
        if self._side is not None:  # the copy to the GPU may still read the pinned buffer
            self._side.wait_filled(batch.slot)

    def _renderer(self, plan: Plan, pixels: Pixels) -> _RenderInto:
        """A function that renders some of the samples into memory for all of them."""
        kernel, arguments = prepared(plan, pixels, self._size, self._kind)
        floats = self._kind == FLOAT32

        # `keep` keeps the pixels in memory until the function is freed.
        def render_into(out: Flat, start: int, stop: int, keep: object = pixels.owner) -> None:
            outputs = (out, _NO_BITS) if floats else (_NO_FLOATS, out)
            kernel(*arguments, *outputs, start, stop)

        return render_into

    def _on_device(self, batch: _Batch) -> list[Tensor]:
        """The images of each batch of a request."""
        if self._side is not None:
            with self._side.fill(batch.slot):
                self._buffers.copy(batch.slot, batch.size)
            self._side.hand_out(batch.slot)
        return self._buffers.hand_out(batch.slot, batch.size)

    def reset(self) -> None:
        """Drop all batches under way and return to the state after construction.

        This works after an exception in any method, including this one.
        """
        self._drop()
        self._workers.settle()
        self._forget()
        self._handed_out = None
        self._free_all()
        if self._side is not None:
            self._side.reset()
        if not self._reuse_buffers:
            for slot in range(len(self._buffers)):
                self._buffers.replace(slot)
        self._closed = False

    def close(self) -> None:
        """Drop all batches under way and end the threads. A second call does nothing."""
        self._drop()
        self._workers.close()
        self._forget()
        if self._side is not None:
            self._side.close()

    def _forget(self) -> None:
        while self._batches:
            self._batches.pop().parts = None  # its calls refer to the batch: a cycle

    def _drop(self) -> None:
        """From now on no task waits for a buffer or begins to render."""
        self._closed = True
        self._workers.drop()
        for batch in self._batches:
            batch.buffer_free.open()


def _parts(size: int, part: int) -> list[slice]:
    """0..size, divided into slices of `part`; the last one may be shorter."""
    return [slice(start, min(start + part, size)) for start in range(0, size, part)]
