"""Stored pixels -> input of the net, on CPU cores. Compiled by numba.

One pass resamples, maps colors, normalizes and rounds.

In: addresses of uint8 [H, W, 3] images (mapped betons, decoded JPEGs, resident pixels) and a Plan.
Out: [N, S, S, 3] in float32, bfloat16 or float16. `host` and `resident` use it. What it computes is
described in `slipform.pipelines.plan.plan`.

`shift` renders boxes that are moved by whole pixels, `resample` other boxes, and `warp` everything
else.
"""

from __future__ import annotations

import numpy as np
from numba import carray, types
from numba.extending import intrinsic

from slipform.pipelines.kernel import kernel
from slipform.pipelines.rendering.erase import erase_box
from slipform.pipelines.rendering.finish import buffers, finish_values
from slipform.pipelines.rendering.output import identity_map
from slipform.pipelines.rendering.resample import resample
from slipform.pipelines.rendering.shift import is_shift, shift
from slipform.pipelines.rendering.warp import warp
from slipform.pipelines.stores import FLOAT32

__all__ = ["paint", "pointer", "render"]


@intrinsic
def pointer(typing_context, address):
    """Make a pointer.

    Args:
        address: int64.

    Returns:
        A pointer for `carray`.
    """

    def codegen(context, builder, signature, args):
        return builder.inttoptr(args[0], context.get_value_type(types.voidptr))

    return types.voidptr(types.int64), codegen


@kernel
def render(
    addresses,
    heights,
    widths,
    geometry,
    color,
    clip,
    erase,
    erase_mode,
    erase_keys,
    sigmas,
    radius,
    border,
    cubic,
    aligned,
    size,
    kind,
    out32,
    out16,
    start,
    stop,
):
    """Render samples start..stop-1 of a batch.

    Args:
        addresses: int64 [N], addresses of contiguous uint8 [H, W, 3] images.
        heights, widths: int32 [N], sizes of the images in pixels.
        geometry: float32 [N, 3, 3], as in `Plan`, in pixels of the images.
        color: float32 [N, 3, 4], as in `Plan`.
        clip: int32 [N, 4], as in `Plan`, in pixels of the images.
        erase: int32 [N, 4], as in `Plan`; [0, 4]: nothing is erased.
        erase_mode, erase_keys: As from `erase.erased`.
        sigmas, radius: As from `blur.blurred`.
        border: ZERO, REFLECT or EDGE of `taps`.
        cubic: Whether images are resized by a cubic filter.
        aligned: Whether all samples are axis-aligned.
        size: Side of the output in pixels.
        kind: FLOAT32, BFLOAT16 or FLOAT16 of `stores`.
        out32: Output of kind FLOAT32: float32 [N * size * size * 3].
        out16: Output of the other kinds, as bits: uint16 [N * size * size * 3].
        start, stop: The samples to render.
    """
    pixels = size * size * 3
    values = np.empty((2, pixels if len(sigmas) else 0), np.float32)
    rows, no_bits = buffers(), np.empty(0, np.uint16)
    # numba would compile each callee again for constants, whose types are types of their own.
    float32, zero = np.int64(FLOAT32), np.int64(0)
    for i in range(start, stop):
        image = carray(pointer(addresses[i]), (heights[i], widths[i] * 3), np.uint8)
        if len(sigmas) and sigmas[i] > 0:
            paint(
                image, geometry[i], aligned, clip[i], (zero, zero), border, cubic, identity_map(),
                size, float32, values[0], no_bits, zero,
            )  # fmt: skip
            finish_values(
                values, sigmas[i], radius, color[i], size, rows, kind, out32, out16, i * pixels
            )
        else:
            paint(
                image, geometry[i], aligned, clip[i], (zero, zero), border, cubic, color[i],
                size, kind, out32, out16, i * pixels,
            )  # fmt: skip
        if len(erase):
            erase_box(erase, erase_mode, erase_keys, i, size, kind, out32, out16)


@kernel(inline="always")
def paint(
    image, matrix, aligned, clip, reduced, border, cubic, color, size, kind, out32, out16, base
):
    """Render one image.

    Args:
        image: uint8 [H, W * 3].
        matrix: [3, 3], the geometry of the `Plan`.
        aligned: Whether the geometry is a box, perhaps mirrored.
        clip, reduced, border, cubic, color, size, kind, out32, out16, base: As for `warp`.
    """
    if not aligned:
        warp(
            image, matrix.astype(np.float64), clip, reduced, np.int64(border), cubic, color, size,
            kind, out32, out16, base,
        )  # fmt: skip
        return
    # The left edge of the first output pixel is at matrix[0, 2]. Each output pixel is matrix[0, 0]
    # stored pixels wide, which is negative if the box is mirrored.
    x, dx, y, dy = matrix[0, 2], matrix[0, 0], matrix[1, 2], matrix[1, 1]
    if is_shift(x, dx, y, dy):
        shift(image, x, dx, y, dy, size, clip, border, color, kind, out32, out16, base)
    else:
        resample(
            image, x, dx, size, y, dy, size,
            clip, border, cubic, color, kind, out32, out16, base, size * 3,
        )  # fmt: skip
