"""The launch of the Triton kernel for samples whose pixels are in the memory of a GPU.

In: pixels and a Plan. Out: images in a buffer. `pack` prepares the numbers of a Plan on the host,
and `launch` enqueues the kernel. This module imports triton when `launch` is called first.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import Tensor

from slipform.pipelines.beton import Beton
from slipform.pipelines.errors import ConfigError
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.plan.plan import Plan
from slipform.pipelines.rendering.taps import BORDERS, reduced_sizes

__all__ = ["check", "launch", "pack"]

_MAX_IMAGE_BYTES = 2**31 - 1  # positions inside an image have 32 bits in the kernel


def check(beton: Beton, spec: Augmentation, executor: str) -> None:
    """Check that the kernel can render all images.

    Args:
        beton: The stored images.
        spec: The augmentation.
        executor: The name of the executor, for the message.

    Raises:
        ConfigError: An image has too many bytes, or the kernel does not know the augmentation.
    """
    if spec.on_cores:
        raise ConfigError(
            f'executor = "{executor}" on a GPU cannot do {spec.on_cores}. Use executor = "host",'
            ' or "auto".'
        )
    largest = int((beton.heights.astype(np.int64) * beton.widths * 3).max(initial=0))
    if largest > _MAX_IMAGE_BYTES:
        raise ConfigError(
            f"{beton.path} has an image of {largest} bytes of pixels; on a GPU {executor} takes"
            f' {_MAX_IMAGE_BYTES} at most. Use executor = "host", or prep with --shorter-side.'
        )


def pack(
    plan: Plan, heights: npt.NDArray[np.int32], widths: npt.NDArray[np.int32]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    """Put the numbers of a Plan in the order of the kernel.

    Args:
        plan: The Plan of N samples.
        heights: int32 [N], heights of the images in pixels.
        widths: int32 [N], widths of the images in pixels.

    Returns:
        float32 [N, 21]: geometry and color. int32 [N, 10]: clip, erased box and reduced size.
    """
    count = len(plan)
    floats = np.empty((count, 21), np.float32)
    floats[:, :9] = plan.geometry.reshape(count, 9)
    floats[:, 9:] = plan.color.reshape(count, 12)
    ints = np.zeros((count, 10), np.int32)
    ints[:, :4] = plan.clip
    if plan.erase is not None:
        ints[:, 4:8] = plan.erase
    if not plan.axis_aligned:
        ints[:, 8:] = reduced_sizes(plan.geometry, plan.image_size, heights, widths)
    return floats, ints


def launch(
    spec: Augmentation,
    images: tuple[Tensor, Tensor, Tensor],
    indices: Tensor,
    rows: Tensor,
    numbers: tuple[Tensor, Tensor],
    out: Tensor,
) -> None:
    """Enqueue the rendering of samples on the current stream. All tensors are on the device.

    Args:
        spec: The augmentation of the Plan.
        images: Pixels uint8; where each image begins in them, int64 [M]; sizes int32 [M, 2]. An
            image may be in other memory: its beginning is then the difference of two addresses.
        indices: int64 [N], the image of each sample.
        rows: int64 [N or more], the row of `out` of each sample.
        numbers: What `pack` returned.
        out: Output, [N or more, S, S, 3].
    """
    from slipform.pipelines.rendering import triton as kernel

    size = spec.image_size
    tile_rows, tile_columns = kernel.tile(size)
    kernel.render[(kernel.num_programs(len(indices), size),)](
        *images,
        indices,
        rows,
        *numbers,
        out,
        SIZE=size,
        BORDER=BORDERS[spec.border],
        ALIGNED=spec.axis_aligned,
        ERASE=spec.erase > 0,
        BY=tile_rows,
        BX=tile_columns,
        **kernel.options(spec.axis_aligned),
    )
