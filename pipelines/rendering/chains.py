"""Samples with chains of operations -> input of the net, on CPU cores. Compiled by numba.

In: as for `render`, and the `Chains` of the Plan. Out: the same rows. Each chain is sampled once
(`paint`, `affine`), its operations change a picture of whole levels (`operate`), and the pictures
are added and colored (`finish`). A sample without operations on pixels is colored at once.
"""

from __future__ import annotations

import numpy as np
from numba import carray

from slipform.pipelines.kernel import kernel
from slipform.pipelines.plan.operations import changes_pixels
from slipform.pipelines.rendering.affine import affine, frame_for
from slipform.pipelines.rendering.erase import erase_box
from slipform.pipelines.rendering.finish import SLACK, buffers, finish, finish_values
from slipform.pipelines.rendering.operations import operate, workspace
from slipform.pipelines.rendering.output import identity_map
from slipform.pipelines.rendering.reduce import reduce
from slipform.pipelines.rendering.render import paint, pointer
from slipform.pipelines.rendering.taps import ZERO, reduced_size
from slipform.pipelines.stores import FLOAT32, LEVELS

__all__ = ["render_chains"]


@kernel
def render_chains(
    addresses, heights, widths, geometry, chains, codes, amounts, weights, color, clip, erase,
    erase_mode, erase_keys, sigmas, radius, cubic, size, kind, out32, out16, start, stop,
):  # fmt: skip
    """Render samples start..stop-1 of a batch.

    Args:
        addresses, heights, widths: As for `render`.
        geometry: float64 [N, 3, 3], as in `Plan`, in pixels of the images.
        chains: float64 [N, C, 3, 3], the geometry of `Chains`, in pixels of the images.
        codes, amounts, weights: As in `Chains`.
        color, clip, erase, erase_mode, erase_keys, sigmas, radius: As for `render`.
        cubic, size, kind, out32, out16, start, stop: As for `render`.
    """
    pixels, num_chains = size * size * 3, chains.shape[1]
    pictures = np.empty((num_chains, pixels + SLACK), np.uint8)
    values = np.empty((2, pixels if len(sigmas) else 0), np.float32)
    small, no_floats, no_bits = values[0, :0], values[0, :0], np.empty(0, np.uint16)
    memory, rows = workspace(size), buffers()
    # numba would compile each callee again for constants, whose types are types of their own.
    float32, zero = np.int64(FLOAT32), np.int64(0)
    for i in range(start, stop):
        image = carray(pointer(addresses[i]), (heights[i], widths[i] * 3), np.uint8)
        base, sigma = i * pixels, sigmas[i] if len(sigmas) else np.float32(0)
        frame, reduced = 0, (0, 0)
        if _any_warp(chains, i):
            height, width = clip[i, 3] - clip[i, 1], clip[i, 2] - clip[i, 0]
            reduced = reduced_size(geometry[i], size, height, width, cubic)
            frame, small = _framed(image, chains[i], clip[i], reduced, cubic, small)
        source = (image, small, frame, clip[i], reduced, cubic)
        if num_chains == 1 and not changes_pixels(codes, i, 0):
            if sigma > 0:
                _sample(
                    source, chains[i, 0], identity_map(), size, float32, values[0], no_bits, zero
                )
                finish_values(values, sigma, radius, color[i], size, rows, kind, out32, out16, base)
            else:
                _sample(source, chains[i, 0], color[i], size, kind, out32, out16, base)
        else:
            is_unchanged = not changes_pixels(codes, i, 0)
            for c in range(num_chains):
                picture, matrix = pictures[c], chains[i, c]
                if c > 0 and is_unchanged and _are_equal(matrix, chains[i, 0]):
                    picture[:] = pictures[0]
                else:
                    _sample(source, matrix, None, size, LEVELS, no_floats, picture, 0)
                operate(picture, size, (codes, amounts), i, c, matrix, clip[i], memory)
            finish(
                pictures, weights[i], values, sigma, radius, color[i], size, rows, kind, out32,
                out16, base,
            )  # fmt: skip
        if len(erase):
            erase_box(erase, erase_mode, erase_keys, i, size, kind, out32, out16)


@kernel
def _any_warp(chains, i):
    """Whether the map of any chain of a sample is no box."""
    found = False
    for c in range(chains.shape[1]):
        found |= chains[i, c, 0, 1] != 0 or chains[i, c, 1, 0] != 0
        found |= chains[i, c, 2, 0] != 0 or chains[i, c, 2, 1] != 0
    return found


@kernel
def _is_affine(matrix):
    """Whether a map is affine and no box."""
    flat = matrix[2, 0] == 0 and matrix[2, 1] == 0
    return flat and (matrix[0, 1] != 0 or matrix[1, 0] != 0)


@kernel
def _framed(image, matrices, clip, reduced, cubic, scratch):
    """Reduce the image for `affine`, once for all chains that need it.

    Returns:
        The width of the frame, which is 0 if no chain needs it; the reduced image.
    """
    frame = np.int64(0)
    for c in range(len(matrices)):
        if _is_affine(matrices[c]):
            frame = max(frame, frame_for(matrices[c], clip, reduced[0], reduced[1]))
    if frame == 0:
        return frame, scratch
    return frame, reduce(image, clip, reduced[0], reduced[1], cubic, frame, scratch)


@kernel(inline="always")
def _sample(source, matrix, color, size, kind, out32, out16, base):
    """Sample the image once, by the kernel for its map."""
    image, small, frame, clip, reduced, cubic = source
    if _is_affine(matrix):
        affine(
            small, frame, matrix, clip, reduced[0], reduced[1], color, size, kind, out32, out16,
            base,
        )  # fmt: skip
        return
    box = matrix[2, 0] == 0 and matrix[2, 1] == 0
    paint(
        image, matrix, box, clip, reduced, ZERO, cubic, color, size, kind, out32, out16, base,
    )  # fmt: skip


@kernel
def _are_equal(one, other):
    for r in range(3):
        for c in range(3):
            if one[r, c] != other[r, c]:
                return False
    return True
