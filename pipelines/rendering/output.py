"""Colors and output of two pixels at a time, in each kind of output. Compiled by numba.

In: a color map, pixels in a vector of `simd`. Out: values in an array. The kernels that sample
images call these functions in their innermost loops. They are inlined by numba: as calls they made
the loops 4 times slower.
"""

from __future__ import annotations

import numpy as np

from slipform.pipelines.kernel import kernel
from slipform.pipelines.simd import blue, green, load8, mul_add, red
from slipform.pipelines.stores import FLOAT32

__all__ = ["color_columns", "colored", "copy_row", "identity_map", "loaded"]


@kernel
def identity_map():
    """The color map that changes nothing, float32 [3, 4]."""
    identity = np.zeros((3, 4), np.float32)
    identity[0, 0] = identity[1, 1] = identity[2, 2] = 1.0
    return identity


@kernel
def color_columns(color):
    """Arrange a color map for vectors of two pixels.

    Args:
        color: float32 [3, 4].

    Returns:
        float32 [32]: each of the four columns as (r, g, b, 0, r, g, b, 0).
    """
    columns = np.zeros(32, np.float32)
    for k in range(4):
        for c in range(3):
            columns[k * 8 + c] = columns[k * 8 + 4 + c] = color[c, k]
    return columns


@kernel(inline="always")
def loaded(columns):
    """Load the columns of a color map, in the function that uses them, so that they stay in
    registers.

    Args:
        columns: From `color_columns`.

    Returns:
        Four Float8: for red, green, blue and the offset.
    """
    return load8(columns, 0), load8(columns, 8), load8(columns, 16), load8(columns, 24)


@kernel(inline="always")
def colored(pixel, columns):
    """Map the colors of two pixels.

    Args:
        pixel: Float8.
        columns: From `loaded`.

    Returns:
        Float8.
    """
    value = mul_add(columns[2], blue(pixel), columns[3])
    value = mul_add(columns[1], green(pixel), value)
    return mul_add(columns[0], red(pixel), value)


@kernel
def copy_row(kind, row32, row16, out32, out16, begin, count):
    """Copy a row from a buffer to the output.

    Args:
        kind: FLOAT32, BFLOAT16, FLOAT16 or LEVELS.
        row32: The buffer of kind FLOAT32: float32.
        row16: The buffer of the other kinds: uint16.
        out32, out16: The outputs, flat.
        begin: Position in the output.
        count: Number of values.
    """
    if kind == FLOAT32:
        out32[begin : begin + count] = row32[:count]
    else:
        out16[begin : begin + count] = row16[:count]
