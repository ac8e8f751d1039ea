"""Stored pixels -> the net's input on CPU cores: resample, color, normalize and round in one pass;
numba.

In: addresses of uint8 [H, W, 3] images (mapped betons, decoded JPEGs, resident pixels) and a Plan.
Out: [N, S, S, 3] in float32, bfloat16 or float16. `host` and `resident` share it;
`slipform.pipelines.plan.plan` says in words what it computes.

Boxes go through `resample`, or `shift` where they are moved by whole pixels, everything else
through `warp`; this file takes them sample by sample.
"""

from __future__ import annotations

import numpy as np
from numba import carray, types
from numba.extending import intrinsic

from slipform.pipelines.kernel import kernel
from slipform.pipelines.rendering.resample import BFLOAT16, FLOAT16, FLOAT32, resample
from slipform.pipelines.rendering.shift import is_shift, shift
from slipform.pipelines.rendering.warp import warp

__all__ = ["BFLOAT16", "FLOAT16", "FLOAT32", "render"]


@intrinsic
def _pointer(typing_context, address):
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
    border,
    aligned,
    size,
    kind,
    out32,
    out16,
    start,
    stop,
):
    """Render samples start..stop-1 of a batch.

    addresses int64 [N] of images heights x widths; geometry [N, 3, 3] and clip [N, 4] in those
    images' own pixels; erase [N, 4] (or [0, 4]); border: taps.ZERO, REFLECT or EDGE; aligned: the
    whole batch is axis-aligned. out32 float32 or out16 uint16, flat, N * size * size * 3; kind says
    which and how 16 bits are meant.
    """
    pixels = size * size * 3
    for i in range(start, stop):
        image = carray(_pointer(addresses[i]), (heights[i], widths[i] * 3), np.uint8)
        matrix = geometry[i]
        if aligned:
            # The first output pixel's left edge lies at matrix[0, 2], each pixel is matrix[0, 0]
            # wide; mirrored: negative.
            x, dx, y, dy = matrix[0, 2], matrix[0, 0], matrix[1, 2], matrix[1, 1]
            if is_shift(x, dx, y, dy):
                shift(
                    image,
                    x,
                    dx,
                    y,
                    dy,
                    size,
                    clip[i],
                    border,
                    color[i],
                    kind,
                    out32,
                    out16,
                    i * pixels,
                )
            else:
                resample(
                    image,
                    x,
                    dx,
                    size,
                    y,
                    dy,
                    size,
                    clip[i],
                    border,
                    color[i],
                    kind,
                    out32,
                    out16,
                    i * pixels,
                    size * 3,
                )
        else:
            warp(image, matrix, clip[i], border, color[i], size, kind, out32, out16, i * pixels)
        if len(erase):
            for row in range(erase[i, 1], erase[i, 3]):
                at = i * pixels + (row * size + erase[i, 0]) * 3
                end = at + (erase[i, 2] - erase[i, 0]) * 3
                if kind == FLOAT32:
                    out32[at:end] = 0
                else:
                    out16[at:end] = 0
