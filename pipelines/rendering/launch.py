"""The launch of the Triton kernels for samples whose pixels are in the memory of a GPU.

In: pixels and a Plan. Out: images in a buffer. `pack` prepares the numbers of a Plan on the host,
and `launch` enqueues the kernels. This module imports triton when `launch` is called first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from slipform.pipelines.beton import Beton
from slipform.pipelines.errors import ConfigError
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.plan.chains import Chains
from slipform.pipelines.plan.operations import BRIGHTNESS, SHEAR_X
from slipform.pipelines.plan.plan import Plan
from slipform.pipelines.rendering.region import moved, relative
from slipform.pipelines.rendering.taps import BORDERS, reduced_sizes

__all__ = ["READ_AFTER", "check", "erases", "launch", "launch_render", "pack"]

_Int32 = npt.NDArray[np.int32]
READ_AFTER = 16  # bytes after the last image that a kernel may read, and does not use
_MAX_IMAGE_BYTES = 2**31 - 64  # positions inside an image have 32 bits in the kernel


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


def erases(spec: Augmentation) -> bool:
    """Whether a Plan may have erased boxes.

    Args:
        spec: The augmentation.
    """
    return spec.erase > 0 or bool(spec.own)


def pack(
    plan: Plan,
    heights: _Int32,
    widths: _Int32,
    origin: _Int32 | None = None,
    scales: _Int32 | None = None,
) -> list[npt.NDArray[Any]]:
    """Put the numbers of a Plan in the order of the kernels.

    Args:
        plan: The Plan of N samples.
        heights: int32 [N], heights of the images in pixels.
        widths: int32 [N], widths of the images in pixels.
        origin: int32 [N, 2], where each image begins, if it is a region of the stored one; see
            `Pixels`. None: they are whole.
        scales: int32 [N], the scales of `Pixels`. None: all 1.

    Returns:
        float32 [N, 21]: geometry and color. int32 [N, 10]: clip, erased box and reduced size. With
        a policy also geometry float32 [N, C, 9], codes int32 and amounts float32 [N, C, K], weights
        float32 [N, C], and the moves of `triton_chains.draw_chains`, int32 [N, C]. With a blur also
        its deviations, float32 [N].
    """
    count = len(plan)
    geometry, clip = plan.geometry, plan.clip
    if origin is not None:
        geometry, clip = relative(plan, origin, heights, widths, scales)
    floats = np.empty((count, 21), np.float32)
    floats[:, :9] = geometry.reshape(count, 9)
    floats[:, 9:] = plan.color.reshape(count, 12)
    ints = np.zeros((count, 10), np.int32)
    ints[:, :4] = clip
    if plan.erase is not None:
        ints[:, 4:8] = plan.erase
    arrays: list[npt.NDArray[Any]] = [floats, ints]
    if plan.chains is not None:
        region = np.zeros((count, 2), np.int32) if origin is None else origin
        base = moved(plan.geometry, region, scales)
        own = moved(plan.chains.geometry, region, scales)
        high, wide = clip[:, 3] - clip[:, 1], clip[:, 2] - clip[:, 0]
        ints[:, 8:] = reduced_sizes(base, plan.image_size, high, wide)
        arrays += _packed(plan.chains, own)
    elif not plan.axis_aligned:
        ints[:, 8:] = reduced_sizes(geometry, plan.image_size, heights, widths)
    if plan.blur is not None:
        arrays.append(plan.blur)
    return arrays


def _packed(chains: Chains, geometry: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    """The numbers of `chains` in the order of the kernels, with their geometry in the images."""
    count, number, depth = chains.codes.shape
    codes = chains.codes.astype(np.int32)
    on_positions = (codes >= SHEAR_X) & (codes < BRIGHTNESS)
    moves = (on_positions * np.arange(1, depth + 1)).max(axis=2, initial=0).astype(np.int32) - 1
    if number == 1:
        moves[(codes < BRIGHTNESS).all(axis=2)] = -2  # UNCHANGED in triton_chains
    own = geometry.reshape(count, number, 9).astype(np.float32)
    return [own, codes, chains.amounts, chains.weights, moves]


def launch(
    spec: Augmentation,
    images: tuple[Tensor, Tensor, Tensor],
    indices: Tensor,
    rows: Tensor,
    numbers: Sequence[Tensor],
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
    if spec.policy or spec.blur:
        from slipform.pipelines.rendering.launch_pictures import launch_pictures

        launch_pictures(spec, images, indices, rows, numbers, out)
    else:
        launch_render(spec, images, indices, rows, numbers, out)


def launch_render(
    spec: Augmentation,
    images: tuple[Tensor, Tensor, Tensor],
    indices: Tensor,
    rows: Tensor,
    numbers: Sequence[Tensor],
    out: Tensor,
    *,
    erase: bool = True,
) -> None:
    """Enqueue the kernel that renders samples without a policy and without a blur.

    Args:
        spec, images, indices, rows, numbers, out: As for `launch`.
        erase: Whether boxes are erased, if the augmentation says so.
    """
    from slipform.pipelines.rendering import triton as kernel

    size = spec.image_size
    rows_of_tile, columns, tiles = kernel.strip(size, spec.axis_aligned)
    kernel.render[(kernel.num_programs(len(indices), size, rows_of_tile * tiles),)](
        *images,
        indices,
        rows,
        numbers[0],
        numbers[1],
        out,
        SIZE=size,
        BORDER=BORDERS[spec.border],
        ALIGNED=spec.axis_aligned,
        ERASE=erase and erases(spec),
        BY=rows_of_tile,
        BX=columns,
        BLOCKS=tiles,
        **kernel.options(spec.axis_aligned),
    )
