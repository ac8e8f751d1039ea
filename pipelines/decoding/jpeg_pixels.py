"""The pixels of JPEG blocks at a fraction of their size: reduced inverse DCT, and colors.

In: the coefficients of a block. Out: its pixels. Each is the mean of a square of full-size pixels,
with all higher frequencies set to 0. Compiled by numba.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from slipform.pipelines.kernel import kernel
from slipform.pipelines.simd import (
    add,
    halves,
    load8,
    maximum,
    minimum,
    mul_add,
    multiply,
    subtract,
    zeros,
)
from slipform.pipelines.stores import store_float32, store_rgb

__all__ = ["add_frequency", "clear", "finish_block", "last_needed", "to_rgb"]


def _zigzag() -> npt.NDArray[np.int64]:
    """int64 [2, 64]: the horizontal and the vertical frequency of each coefficient."""
    order = sorted(
        ((x, y) for x in range(8) for y in range(8)),
        key=lambda at: (sum(at), at[0] if sum(at) % 2 == 0 else at[1]),
    )
    # On even diagonals the horizontal frequency rises; on odd ones the vertical one does.
    return np.array(order, np.int64).T.copy()


def _averages() -> npt.NDArray[np.float32]:
    """float32 [4, 8, 8]: for 1, 2, 4 and 8 outputs, the share of each frequency in each output.

    The rows are frequencies. Outputs that are not used are 0.
    """
    pixels = np.arange(8)
    shares = np.zeros((4, 8, 8))
    for i in range(4):
        outputs = 1 << i
        for frequency in range(outputs):
            wave = np.cos((2 * pixels + 1) * frequency * math.pi / 16) / 2
            if frequency == 0:
                wave /= math.sqrt(2)
            shares[i, frequency, :outputs] = wave.reshape(outputs, -1).mean(axis=1)
    return shares.astype(np.float32)


_ZIGZAG, _AVERAGES = _zigzag(), _averages().ravel()


def last_needed(outputs: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The last coefficient that has an effect, in zigzag order.

    Args:
        outputs: int64 [N, 2]: the pixels of a block on each axis (x, y): 1, 2, 4 or 8.

    Returns:
        int64 [N].
    """
    needed = np.all(_ZIGZAG[None] < outputs[:, :, None], axis=1)
    return 63 - needed[:, ::-1].argmax(axis=1)


@kernel(_nrt=False, forceinline=True)
def clear(block):  # type: ignore[no-untyped-def]
    """Set a block of 8 x 8 frequencies to 0.

    Args:
        block: float32 [64].
    """
    for row in range(8):
        store_float32(block, 8 * row, 8 * row + 4, zeros())


@kernel(_nrt=False, forceinline=True)
def add_frequency(block, k, value, outputs):  # type: ignore[no-untyped-def]
    """Add a coefficient to the row of its vertical frequency, as pixels along x.

    The function has no branches: a branch misprediction takes longer than the addition. The shares
    of frequencies that are not used are 0.

    Args:
        block: float32 [64], the sums: eight pixels for each vertical frequency.
        k: The position of the coefficient in zigzag order.
        value: Its value, float32.
        outputs: The kind of outputs on the x axis, 0 to 3 for 1, 2, 4, 8 pixels.
    """
    row = 8 * _ZIGZAG[1, k]
    shares = load8(_AVERAGES, 64 * outputs + 8 * _ZIGZAG[0, k])
    store_float32(block, row, row + 4, mul_add(halves(value, value), shares, load8(block, row)))


@kernel(_nrt=False, forceinline=True)
def finish_block(block, outputs, planes, position, stride):  # type: ignore[no-untyped-def]
    """Make the pixels of a block from the sums of its vertical frequencies.

    Each row is written as eight pixels. Only the pixels that the block has are valid.

    Args:
        block: See `add_frequency`.
        outputs: The kind of outputs on the y axis.
        planes: float32, the output.
        position: Where its first pixel is.
        stride: From one row to the next.
    """
    # Without loops over y, the rows stay in registers.
    at, num = 64 * outputs, 1 << outputs
    row0, row1 = load8(block, 0), load8(block, 8)
    row2, row3 = load8(block, 16), load8(block, 24)
    row4, row5 = load8(block, 32), load8(block, 40)
    row6, row7 = load8(block, 48), load8(block, 56)
    for i in range(num):
        row = _add_row(at + i, row0, zeros())
        if outputs >= 1:
            row = _add_row(at + 8 + i, row1, row)
        if outputs >= 2:
            row = _add_row(at + 24 + i, row3, _add_row(at + 16 + i, row2, row))
        if outputs == 3:
            row = _add_row(at + 40 + i, row5, _add_row(at + 32 + i, row4, row))
            row = _add_row(at + 56 + i, row7, _add_row(at + 48 + i, row6, row))
        store_float32(planes, position, position + 4, row)
        position += stride


@kernel(_nrt=False, forceinline=True)
def _add_row(at, row, total):  # type: ignore[no-untyped-def]
    share = _AVERAGES[at]
    return mul_add(halves(share, share), row, total)


@kernel(_nrt=False)
def to_rgb(planes, components, pixels):  # type: ignore[no-untyped-def]
    """Convert YCbCr, or gray, to RGB.

    Args:
        planes: float32 [3, H, W]: Y less 128, Cb and Cr.
        components: 3, or 1 for gray.
        pixels: The output, uint8 [h, w, 3]. It takes the upper left part.
    """
    half, most, none = np.float32(128.5), np.float32(255.5), np.float32(0)
    red, blue = np.float32(1.402), np.float32(1.772)
    green_blue, green_red = np.float32(0.344136), np.float32(0.714136)
    (rows, stride), width = planes.shape[1:], pixels.shape[1]
    halves8, most8 = halves(half, half), halves(most, most)
    red8, blue8 = halves(red, red), halves(blue, blue)
    green_blue8, green_red8 = halves(green_blue, green_blue), halves(green_red, green_red)
    for y in range(pixels.shape[0]):
        for x in range(0, width - 7, 8):
            at, out = y * stride + x, 3 * (y * width + x)
            light8 = add(load8(planes, at), halves8)
            if components == 1:
                light8 = minimum(maximum(light8, zeros()), most8)
                store_rgb(pixels, out, light8, light8, light8)
                continue
            b8 = load8(planes, at + rows * stride)
            r8 = load8(planes, at + 2 * rows * stride)
            g8 = subtract(subtract(light8, multiply(green_blue8, b8)), multiply(green_red8, r8))
            r8, b8 = add(light8, multiply(red8, r8)), add(light8, multiply(blue8, b8))
            store_rgb(
                pixels, out, minimum(maximum(r8, zeros()), most8),
                minimum(maximum(g8, zeros()), most8), minimum(maximum(b8, zeros()), most8),
            )  # fmt: skip
        for x in range(width & ~7, width):
            light = planes[0, y, x] + half
            if components == 1:
                pixels[y, x, :] = np.uint8(min(max(light, none), most))
                continue
            b, r = planes[1, y, x], planes[2, y, x]
            pixels[y, x, 0] = np.uint8(min(max(light + red * r, none), most))
            pixels[y, x, 1] = np.uint8(min(max(light - green_blue * b - green_red * r, none), most))
            pixels[y, x, 2] = np.uint8(min(max(light + blue * b, none), most))
