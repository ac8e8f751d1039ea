"""The `stream` executor streams images of any kind to a GPU, where Triton kernels render them.

In: requests. Out: batches on the device. The GPU's decoder decodes a share of the JPEGs. CPU cores
decode the others, only the regions that are needed. These and raw pixels are copied to the
device as uint8, a part of a batch at a time. The sample alone decides who decodes it
(`slipform.pipelines.decoding.share`).

Everything is done in threads. The thread that reads a part also launches the copy and the kernels
for it, on a side stream. Pixels and numbers of a part are freed when the side stream has used them.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from threading import Lock

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from slipform.pipelines.beton import Beton
from slipform.pipelines.beton_format import RAW
from slipform.pipelines.decoding.decoder import MOST_AT_ONCE, images_at_once, threads_to_decode
from slipform.pipelines.decoding.device_decoder import DeviceDecoder
from slipform.pipelines.decoding.integrity import FirstRead
from slipform.pipelines.decoding.pixels import Pixels
from slipform.pipelines.decoding.share import in_share
from slipform.pipelines.errors import ConfigError
from slipform.pipelines.executors.contract import Executor
from slipform.pipelines.plan.plan import Plan
from slipform.pipelines.rendering.launch import check, launch, pack
from slipform.pipelines.rendering.reading import CoreReader, stage
from slipform.pipelines.rendering.request import BatchRequest, Rendered, Settings
from slipform.pipelines.rendering.ring import OutputRing
from slipform.pipelines.upload import upload_together
from slipform.pipelines.workers import Tasks, Workers

__all__ = ["StreamExecutor", "build"]

_Int64 = npt.NDArray[np.int64]
_Read = Callable[[_Int64, Plan], tuple[Tensor, _Int64, Pixels]]
_PIPELINES = 2  # of the GPU's decoder: one reads codes on cores while the GPU decodes for the other
_SHARE = 0.5  # without a measurement
_BYTES_ON_DEVICE = 1 << 30  # decoded by the GPU in one call


@dataclass
class _Batch:
    slot: int
    size: int
    parts: list[Tasks[list[int]]] = field(default_factory=list)  # positions of bad samples


class StreamExecutor(Executor):
    """See `Executor`. With TRITON_INTERPRET=1 it also runs on a CPU, slowly, for tests.

    Args:
        beton: The stored images.
        settings: The settings of the executor.

    Attributes:
        decoder_share: The share of the JPEGs that the GPU decodes. None: there are no JPEGs.

    Raises:
        ConfigError: An image is too large for the kernel, or it does not know the augmentation.
    """

    name = "stream"

    def __init__(self, beton: Beton, settings: Settings) -> None:
        check(beton, settings.spec, self.name)
        self.depth = settings.depth
        self._beton, self._settings = beton, settings
        self._first_read = FirstRead(beton, settings.on_bad)
        self._reader = CoreReader(beton, self._first_read, settings.decode_scale == "auto")
        share = _SHARE if settings.decoder_share is None else settings.decoder_share
        self.decoder_share = share if self._reader.decodes else None
        self._on_gpu = (beton.modes != RAW) & in_share(np.arange(len(beton)), share)
        height, width = (int(sides.max(initial=1)) for sides in (beton.heights, beton.widths))
        self._gpu_part = max(1, min(settings.batch_size, _BYTES_ON_DEVICE // (height * width * 3)))
        threads = settings.threads
        self._core_part = max(MOST_AT_ONCE, settings.batch_size // (2 * threads))
        self._decoder = DeviceDecoder(
            settings.device, self._gpu_part, max(1, threads // (2 * _PIPELINES)), height, width
        )
        # The side stream of the ring waits for what was enqueued before it was built.
        self._black = torch.zeros(16, dtype=torch.uint8, device=settings.device)
        self._numbers = torch.arange(settings.batch_size, device=settings.device)
        self._ring = OutputRing(settings, self.depth + 1)
        self._batches: deque[_Batch] = deque()
        self._launching = Lock()  # only threads of the workers take it
        self._seconds = {"gpu_decode_seconds": 0.0, "launch_seconds": 0.0}
        cores = threads_to_decode(threads) if self._reader.decodes else threads
        self._cores = Workers(cores, "slipform-read")
        self._gpus = Workers(_PIPELINES, "slipform-gpu-decode")
        if settings.device.type == "cuda":
            # Otherwise a thread would open a context on GPU 0, which takes 300 to 500 MB.
            index = settings.device.index
            call = partial(
                torch.cuda.set_device, torch.cuda.current_device() if index is None else index
            )
            self._cores.on_every_thread(call)
            self._gpus.on_every_thread(call)

    def submit(self, request: BatchRequest) -> None:
        """See `Executor`."""
        self._beton.limit_pages(request.indices)
        batch = _Batch(self._ring.take(), len(request))
        self._batches.append(batch)
        on_gpu = self._on_gpu[request.indices]
        at, size = np.flatnonzero(~on_gpu), self._core_part
        if self._reader.decodes and len(at):
            indices = request.indices[at]
            size = images_at_once(*self._beton.shapes.of(indices))
        for workers, read, positions, part in (
            (self._gpus, self._decode, np.flatnonzero(on_gpu), self._gpu_part),
            (self._cores, self._stage, at, size),
        ):
            make = partial(self._make, request, batch.slot, read)
            if calls := [
                partial(make, positions[start : start + part])
                for start in range(0, len(positions), part)
            ]:
                batch.parts.append(workers.submit_all(calls))

    def _make(self, request: BatchRequest, slot: int, read: _Read, at: _Int64) -> list[int]:
        """Read the samples at some positions of a request, and launch their rendering.

        Returns:
            The positions of the samples that cannot be read.
        """
        request, spec = request.part(at), self._settings.spec
        indices, plan = request.indices, request.plan()
        base, starts, pixels = read(indices, plan)
        origin = np.zeros((len(at), 2), np.int32) if pixels.origin is None else pixels.origin
        numbers = pack(plan, pixels.heights, pixels.widths, origin, pixels.scales)
        sizes = np.stack([pixels.heights, pixels.widths], axis=1)
        began = time.perf_counter()
        with self._launching, self._ring.fill(slot) as out:
            base = base.to(self._settings.device, non_blocking=True)
            rows, starts_there, sizes_there, *numbers_there = upload_together(
                [at, starts, sizes, *numbers], self._settings.device
            )
            launch(
                spec, (base, starts_there, sizes_there), self._numbers[: len(at)], rows,
                numbers_there, out,
            )  # fmt: skip
            self._seconds["launch_seconds"] += time.perf_counter() - began
        return at[list(pixels.bad)].tolist()

    def _stage(self, indices: _Int64, plan: Plan) -> tuple[Tensor, _Int64, Pixels]:
        """Pixels read by CPU cores: a buffer, where each image begins in it, the images."""
        pixels = self._reader.read(indices, plan)
        heights, widths = self._beton.shapes.of(indices)
        return stage(pixels, plan, heights, widths, self._settings.device.type == "cuda")

    def _decode(self, indices: _Int64, plan: Plan) -> tuple[Tensor, _Int64, Pixels]:
        """JPEGs decoded by the GPU: a buffer, how far each image is from it, the images."""
        began = time.perf_counter()
        damaged = self._first_read.bad(indices)
        pixels = self._decoder.decode(
            [self._beton.bytes_of(i) for i in indices],
            *self._beton.shapes.of(indices),
            damaged,
            self._ring.stream,
        )
        self._first_read.undecodable(indices, sorted({*pixels.bad} - {*damaged}))
        start = self._black.data_ptr()
        starts = np.where(pixels.addresses == 0, 0, pixels.addresses - start)
        with self._launching:
            self._seconds["gpu_decode_seconds"] += time.perf_counter() - began
        return self._black, starts, pixels

    def collect(self) -> Rendered:
        """See `Executor`."""
        batch = self._batches[0]
        bad = [one for parts in batch.parts for found in parts.results() for one in found]
        self._batches.popleft()
        return Rendered(self._ring.hand_out(batch.slot, batch.size), sorted(bad))

    def reset(self) -> None:
        """See `Executor`."""
        for workers in (self._cores, self._gpus):
            workers.drop()
            workers.settle()
        self._batches.clear()
        self._ring.reset()

    def stats(self) -> dict[str, float]:
        """See `Executor`."""
        return {**self._reader.seconds, **self._seconds}

    def close(self) -> None:
        """See `Executor`."""
        for workers in (self._cores, self._gpus):
            workers.close()
        self._batches.clear()
        self._ring.close()


def build(beton: Beton, settings: Settings) -> Executor:
    """Build the executor.

    Args:
        beton: The stored images.
        settings: The settings of the executor. The device is a GPU.

    Raises:
        ConfigError: The device is a CPU, or an image is too large for the kernel.
    """
    if settings.device.type != "cuda":
        raise ConfigError('executor = "stream" needs an NVIDIA GPU. Use executor = "host".')
    return StreamExecutor(beton, settings)
