"""Samples with chains of operations -> input of the net, on CPU cores. Compiled by numba.

In: as for `render`, and the `Chains` of the Plan. Out: the same rows. Each chain is sampled once
(`paint`), its operations change a picture of whole levels (`operate`), and the pictures are added.
"""

from __future__ import annotations

import numpy as np
from numba import carray

from slipform.pipelines.kernel import kernel
from slipform.pipelines.plan.operations import changes_pixels
from slipform.pipelines.rendering.affine import affine
from slipform.pipelines.rendering.erase import erase_box
from slipform.pipelines.rendering.operations import operate
from slipform.pipelines.rendering.output import (
    color_columns,
    colored,
    copy_row,
    identity_map,
    loaded,
)
from slipform.pipelines.rendering.render import paint, pointer
from slipform.pipelines.rendering.taps import ZERO, reduced_size
from slipform.pipelines.simd import load_pixels
from slipform.pipelines.stores import LEVELS, store

__all__ = ["render_chains"]


@kernel
def render_chains(
    addresses, heights, widths, geometry, chains, codes, amounts, weights, color, clip, erase,
    erase_mode, erase_keys, cubic, size, kind, out32, out16, start, stop,
):  # fmt: skip
    """Render samples start..stop-1 of a batch.

    Args:
        addresses, heights, widths: As for `render`.
        geometry: float64 [N, 3, 3], as in `Plan`, in pixels of the images.
        chains: float64 [N, C, 3, 3], the geometry of `Chains`, in pixels of the images.
        codes, amounts, weights: As in `Chains`.
        color, clip, erase, erase_mode, erase_keys: As for `render`.
        cubic, size, kind, out32, out16, start, stop: As for `render`.
    """
    pixels, num_chains = size * size * 3, chains.shape[1]
    levels = np.empty(pixels, np.uint16)
    unmoved = np.empty(pixels if num_chains > 1 else 0, np.uint16)  # the picture of the first chain
    mixed = np.empty(pixels if num_chains > 1 else 0, np.float32)
    scratch = np.empty(0, np.float32)
    no_floats, spans = np.empty(0, np.float32), np.empty((size, 2), np.int64)
    identity = identity_map()
    for i in range(start, stop):
        image = carray(pointer(addresses[i]), (heights[i], widths[i] * 3), np.uint8)
        base = i * pixels
        direct = num_chains == 1 and not changes_pixels(codes[i, 0])
        if num_chains > 1:
            mixed[:] = 0.0
        x0, y0, x1, y1 = clip[i]
        reduced = reduced_size(geometry[i], size, y1 - y0, x1 - x0, cubic)
        for c in range(num_chains):
            matrix = chains[i, c]
            to_color, to_kind, to32, to16, at = (
                (color[i], kind, out32, out16, base)
                if direct
                else (identity, LEVELS, no_floats, levels, 0)
            )
            if c > 0 and _are_equal(matrix, chains[i, 0]):
                levels[:] = unmoved
            else:
                scratch = _sample(
                    image, matrix, clip[i], reduced, cubic, to_color, size, to_kind, to32, to16,
                    at, scratch,
                )  # fmt: skip
            if c == 0 and num_chains > 1:
                unmoved[:] = levels
            if not direct:
                _find_spans(matrix, clip[i], size, spans)
                operate(levels, size, codes[i, c], amounts[i, c], spans)
            if num_chains > 1:
                _add(levels, weights[i, c], mixed)
        if num_chains > 1:
            _color(mixed, size, color[i], kind, out32, out16, base)
        elif not direct:
            _color(levels, size, color[i], kind, out32, out16, base)
        if len(erase):
            erase_box(erase, erase_mode, erase_keys, i, size, kind, out32, out16)


@kernel
def _sample(
    image, matrix, clip, reduced, cubic, color, size, kind, out32, out16, base, scratch
):  # fmt: skip
    """Sample the image once, by the kernel for its map. Returns `scratch`, or a larger array."""
    flat = matrix[2, 0] == 0 and matrix[2, 1] == 0
    box = flat and matrix[0, 1] == 0 and matrix[1, 0] == 0
    if flat and not box:
        return affine(
            image, matrix, clip, reduced, cubic, color, size, kind, out32, out16, base, scratch
        )
    paint(
        image, matrix, box, clip, reduced, ZERO, cubic, color, size, kind, out32, out16, base,
    )  # fmt: skip
    return scratch


@kernel
def _are_equal(one, other):
    for r in range(3):
        for c in range(3):
            if one[r, c] != other[r, c]:
                return False
    return True


@kernel
def _find_spans(matrix, clip, size, spans):
    """The outputs of each row whose centers are inside `clip`. If the map is no affine one: all."""
    spans[:, 0], spans[:, 1] = 0, size
    if matrix[2, 0] != 0 or matrix[2, 1] != 0:
        return
    for j in range(size):
        for axis in range(2):
            step = matrix[axis, 0]
            at = step * 0.5 + matrix[axis, 1] * (j + 0.5) + matrix[axis, 2]
            low, high = clip[axis] - at, clip[axis + 2] - at
            if step == 0:
                if low > 0 or high <= 0:
                    spans[j, 1] = 0
                continue
            first, last = min(low / step, high / step), max(low / step, high / step)
            # A thousandth of a pixel for rounding. The limits keep whole numbers small.
            spans[j, 0] = max(spans[j, 0], int(np.ceil(min(max(first - 1e-3, 0.0), size))))
            spans[j, 1] = min(spans[j, 1], int(np.floor(max(min(last + 1e-3, size), -1.0))) + 1)
        spans[j, 1] = max(spans[j, 0], spans[j, 1])


@kernel
def _add(levels, weight, mixed):
    for at in range(len(levels)):
        mixed[at] += np.float32(levels[at]) * weight


@kernel(fastmath={"contract", "nsz"})
def _color(values, size, color, kind, out32, out16, base):
    """Map levels by the color map, and write them to out[base:]."""
    columns = loaded(color_columns(color))
    line = 3 * size
    row = np.zeros(line + 8, np.float32)
    last32, last16 = np.empty(line + 8, np.float32), np.empty(line + 8, np.uint16)
    for j in range(size):
        source = values[j * line : (j + 1) * line]
        for at in range(line):
            row[at] = source[at]
        # Storing a pixel overwrites one lane to its right, which is written next. The last row is
        # written to a buffer and copied.
        last = j == size - 1
        to32, to16, at = (last32, last16, 0) if last else (out32, out16, base + j * line)
        for pair in range((size + 1) // 2):
            pixel = load_pixels(row, 6 * pair, 6 * pair + 3)
            store(kind, to32, to16, at + 6 * pair, colored(pixel, columns))
    copy_row(kind, last32, last16, out32, out16, base + (size - 1) * line, line)
