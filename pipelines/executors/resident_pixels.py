"""All pixels of a beton in the memory of a GPU, and the Triton kernels that make batches of them.

In: a beton. Out: `ResidentPixels`. Its `render` launches the kernels for samples and a Plan that
are in the same memory.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from slipform.pipelines.beton import Beton
from slipform.pipelines.beton_format import RAW
from slipform.pipelines.decoding.decoder import (
    Decoder,
    images_at_once,
    threads_to_decode,
)
from slipform.pipelines.decoding.integrity import FirstRead
from slipform.pipelines.decoding.preload import decode_all
from slipform.pipelines.errors import ConfigError
from slipform.pipelines.machine import free_memory_bytes
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.rendering.boxes import copy_boxes
from slipform.pipelines.rendering.launch import READ_AFTER, check, launch
from slipform.pipelines.rendering.request import Settings
from slipform.pipelines.unclosed import GeneratorPool

__all__ = ["ResidentPixels"]

# First sample, last sample + 1, their pixels one after another, the bad samples.
_Part = tuple[int, int, Tensor, npt.NDArray[np.int64]]
_PART_BYTES = 16 * 2**20  # of raw pixels that a thread reads at once


class ResidentPixels:
    """The decoded images of a beton, on the device of `settings`.

    Args:
        beton: The stored images.
        settings: The settings of the executor.

    Attributes:
        bad: bool [M] on the host, True for images that could not be read. They are black.
        load_seconds: Seconds of reading, decoding and copying.
        device: Device of the pixels.
        dtype: Data type of the batches.

    Raises:
        ConfigError: An image has more bytes than the kernel can address, or the images need more
            memory than is free.
        SampleError: on_bad is "error" and a sample cannot be read.
    """

    def __init__(self, beton: Beton, settings: Settings) -> None:
        device = self.device = settings.device
        self.dtype = settings.dtype
        check(beton, settings.spec, "resident")
        began = time.perf_counter()
        self.bad, starts = np.zeros(len(beton), bool), _starts(beton)
        if starts[-1] > (free := free_memory_bytes(str(device))):
            raise ConfigError(
                f"the decoded images of {beton.path} take {int(starts[-1]):,} bytes, and {free:,}"
                f' are free on {device}: executor = "resident" is not possible. Use executor ='
                ' "stream", or prep with --shorter-side.'
            )
        size = int(starts[-1]) + READ_AFTER
        self._pixels = torch.empty(size, dtype=torch.uint8, device=device)
        parts = _read_all if settings.world_size == 1 or (beton.modes == RAW).all() else _shared
        for first, stop, buffer, bad in parts(beton, settings, starts):
            there = self._pixels[starts[first] : starts[stop]]
            there.copy_(buffer, non_blocking=True)
            self.bad[bad] = True
            beton.release_pages()
        offsets = starts[:-1].copy()
        self._offsets = torch.from_numpy(offsets).to(device)
        self._sizes = torch.from_numpy(np.stack([beton.heights, beton.widths], axis=1)).to(device)
        self._rows = torch.arange(settings.batch_size, device=device)
        self.load_seconds = time.perf_counter() - began

    @property
    def num_bytes(self) -> int:
        """The bytes of the pixels in the memory of the device."""
        return max(0, self._pixels.untyped_storage().nbytes() - READ_AFTER)

    def render(
        self, spec: Augmentation, indices: Tensor, numbers: Sequence[Tensor], out: Tensor
    ) -> None:
        """Enqueue the rendering of a batch. All arrays are on the device.

        Args:
            spec: The augmentation of the Plan.
            indices: int64 [N], the samples.
            numbers: The numbers of the Plan, as from `launch.pack`.
            out: Output, [N or more, S, S, 3].
        """
        images = self._pixels, self._offsets, self._sizes
        launch(spec, images, indices, self._rows, numbers, out)

    def close(self) -> None:
        """Free the memory of the pixels."""
        self._pixels = torch.empty(0, dtype=torch.uint8, device=self._pixels.device)


def _starts(beton: Beton) -> npt.NDArray[np.int64]:
    """Where each image begins if they lie one after another, and where the last one ends."""
    sizes = beton.heights.astype(np.int64) * beton.widths * 3
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def _shared(beton: Beton, settings: Settings, starts: npt.NDArray[np.int64]) -> Iterator[_Part]:
    """The same as `_read_all`, from one copy of all pixels on the host.

    The processes of a run on one machine decode the images only once.
    """
    first_read = FirstRead(beton, settings.on_bad)
    decoded = decode_all(beton, settings.threads, first_read, one_buffer=True, shared=True)
    part = max(1, len(beton) * _PART_BYTES // max(1, int(starts[-1])))
    for first in range(0, len(beton), part):
        stop = min(first + part, len(beton))
        pixels = torch.from_numpy(decoded.buffer[starts[first] : starts[stop]])
        if settings.device.type == "cuda":
            pixels = pixels.pin_memory()
        yield first, stop, pixels, first + np.flatnonzero(decoded.bad[first:stop])


def _read_all(beton: Beton, settings: Settings, starts: npt.NDArray[np.int64]) -> Iterator[_Part]:
    """Check and decode all samples in threads, a part at a time.

    The host never holds all of them. Pinned memory is used again when the copy from it is done.
    """
    first_read, decoder = FirstRead(beton, settings.on_bad), Decoder()
    pinned = settings.device.type == "cuda"
    jpeg = beton.modes != RAW
    largest = int(np.diff(starts).max(initial=1))
    part, threads = max(1, _PART_BYTES // largest), settings.threads
    if jpeg.any():
        part = images_at_once(beton.heights, beton.widths)
        threads = threads_to_decode(threads)

    def read(first: int, last: int) -> _Part:
        at = np.arange(first, min(first + part, last + 1))
        lost = set(first_read.bad(at))
        boxes = np.zeros((len(at), 4), np.int32)
        boxes[:, 2], boxes[:, 3] = beton.widths[at], beton.heights[at]
        addresses, owner = beton.addresses[at], None
        if coded := [k for k, index in enumerate(at) if jpeg[index] and k not in lost]:
            owner = decoder.decode([beton.bytes_of(at[k]) for k in coded], boxes[coded])
            addresses[coded] = owner.addresses
            lost.update(first_read.undecodable(at, [coded[k] for k in owner.bad]))
        own = starts[at] - starts[first]
        size = int(starts[at[-1] + 1] - starts[first])
        buffer = torch.empty(size, dtype=torch.uint8, pin_memory=pinned)
        here = [k for k in range(len(at)) if k not in lost]
        copy_boxes(addresses[here], beton.widths[at[here]], boxes[here], buffer.numpy(), own[here])
        for k in lost:
            buffer[own[k] : own[k] + int(starts[at[k] + 1] - starts[at[k]])] = 0
        return first, int(at[-1]) + 1, buffer, at[sorted(lost)]

    with GeneratorPool(threads) as pool:
        for held in beton.parts():
            last = int(held[-1]) if len(held) else -1
            firsts = range(int(held[0]) if len(held) else 0, last + 1, part)
            yield from pool.map(read, firsts, [last] * len(firsts))
