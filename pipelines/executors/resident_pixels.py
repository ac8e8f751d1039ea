"""All pixels of a beton in the memory of a GPU, and the Triton kernel that makes batches of them.

In: a beton. Out: `ResidentPixels`. Its `render` launches the kernel for samples and a Plan that are
in the same memory.
"""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from slipform.pipelines.beton import RAW, Beton
from slipform.pipelines.decoding.integrity import FirstRead
from slipform.pipelines.decoding.preload import decode_all
from slipform.pipelines.errors import ConfigError
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.rendering.request import Settings
from slipform.pipelines.rendering.taps import BORDERS
from slipform.pipelines.upload import upload

__all__ = ["ResidentPixels"]

_PART_BYTES = 64 * 2**20  # of an upload: pinned memory that the host needs at once
_LARGEST_GAP_SHARE = 0.1
_MAX_IMAGE_BYTES = 2**31 - 1  # positions inside an image have 32 bits in the kernel


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
        ConfigError: An image has more bytes than the kernel can address.
        SampleError: on_bad is "error" and a sample cannot be read.
    """

    def __init__(self, beton: Beton, settings: Settings) -> None:
        device = self.device = settings.device
        self.dtype = settings.dtype
        largest = int((beton.heights.astype(np.int64) * beton.widths * 3).max(initial=0))
        if largest > _MAX_IMAGE_BYTES:
            raise ConfigError(
                f"{beton.path} has an image of {largest} bytes of pixels; on a GPU resident takes"
                f' {_MAX_IMAGE_BYTES} at most. Use executor = "host", or prep with --shorter-side.'
            )
        began = time.perf_counter()
        first_read = FirstRead(beton, settings.on_bad)
        if _lies_as_needed(beton) and not first_read.bad(np.arange(len(beton))):
            self.bad = np.zeros(len(beton), bool)
            self._pixels, offsets = _upload_region(beton, device)
        else:
            shared = settings.world_size > 1
            decoded = decode_all(beton, settings.threads, first_read, True, shared)
            self.bad, offsets = decoded.bad, decoded.offsets
            self._pixels = torch.from_numpy(decoded.buffer).to(device)
        self._offsets = torch.from_numpy(offsets).to(device)
        self._sizes = torch.from_numpy(np.stack([beton.heights, beton.widths], axis=1)).to(device)
        self.load_seconds = time.perf_counter() - began

    @property
    def num_bytes(self) -> int:
        """The bytes of the pixels in the memory of the device."""
        return self._pixels.untyped_storage().nbytes()

    def render(
        self, spec: Augmentation, indices: Tensor, floats: Tensor, ints: Tensor, out: Tensor
    ) -> None:
        """Enqueue the rendering of a batch. All arrays are on the device.

        Args:
            spec: The augmentation of the Plan.
            indices: int64 [N], the samples.
            floats: float32 [N, 21], geometry and color of the Plan.
            ints: int32 [N, 10], clip, erased box and reduced size of the Plan.
            out: Output, [N or more, S, S, 3].
        """
        from slipform.pipelines.rendering import triton as kernel

        size = spec.image_size
        rows, columns = kernel.tile(size)
        kernel.render[(kernel.num_programs(len(indices), size),)](
            self._pixels,
            self._offsets,
            self._sizes,
            indices,
            floats,
            ints,
            out,
            SIZE=size,
            BORDER=BORDERS[spec.border],
            ALIGNED=spec.axis_aligned,
            ERASE=spec.erase > 0,
            BY=rows,
            BX=columns,
            **kernel.options(spec.axis_aligned),
        )

    def close(self) -> None:
        """Free the memory of the pixels."""
        self._pixels = torch.empty(0, dtype=torch.uint8, device=self._pixels.device)


def _lies_as_needed(beton: Beton) -> bool:
    """Whether all samples are raw, and lie in the file with little between them."""
    if not len(beton) or not (beton.modes == RAW).all():
        return False
    stored = int(beton.sizes.sum())
    ends = beton.offsets + beton.sizes
    region = int(ends.max() - beton.offsets.min())
    return int(ends.max()) <= len(beton.data) and region <= (1 + _LARGEST_GAP_SHARE) * stored


def _upload_region(beton: Beton, device: torch.device) -> tuple[Tensor, npt.NDArray[np.int64]]:
    """Copy the samples to the device as they lie in the file, a part at a time, without a copy of
    all of them on the host. Return the pixels, and where each image begins."""
    start, end = int(beton.offsets.min()), int((beton.offsets + beton.sizes).max())
    pixels = torch.empty(end - start, dtype=torch.uint8, device=device)
    for at in range(start, end, _PART_BYTES):
        part = np.array(beton.data[at : min(at + _PART_BYTES, end)])
        pixels[at - start : at - start + len(part)].copy_(upload(part, device), non_blocking=True)
    beton.release_pages()
    return pixels, beton.offsets - start
