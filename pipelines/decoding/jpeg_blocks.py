"""The AC coefficients of a JPEG block: read, or skipped. Compiled by numba.

In: the bytes of a scan and its buffer of bits, at a block after its DC coefficient. Out: the
position after the coefficients, and the pixels of those that are needed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from slipform.pipelines.decoding.jpeg_codes import WINDOW, fill, long_code
from slipform.pipelines.decoding.jpeg_pixels import add_frequency
from slipform.pipelines.kernel import kernel

__all__ = ["read_block", "signed", "skip"]

_SHIFT = np.uint64(64 - WINDOW)


@kernel(_nrt=False, forceinline=True)
def signed(bits, size):  # type: ignore[no-untyped-def]
    """The value of a coefficient, as T.81 codes it.

    Args:
        bits: The buffer of bits. The value begins at the highest bit.
        size: The number of bits of the value, from 1 on.
    """
    value = np.int64(bits >> np.uint64(64 - size))
    return value if value >> (size - 1) else value - (1 << size) + 1


@kernel(_nrt=False, forceinline=True)
def _symbol(bits, ac, codes, limits, offsets, values):  # type: ignore[no-untyped-def]
    """The length of the next code, the zeros before the coefficient, and the bits of its value.

    The length is 0 if the code is impossible. Both others are 0 at the end of a block.
    """
    code = np.int64(codes[ac, bits >> _SHIFT])
    if code == 0:
        code = long_code(bits, ac, limits, offsets, values)
    length, run, size = code & 255, code >> 12, (code >> 8) & 15
    if size > 10 or (size == 0 and 0 < run < 15):
        length = np.int64(0)
    return length, run, size


@kernel(_nrt=False, forceinline=True)
def skip(  # type: ignore[no-untyped-def]
    data, end, at, bits, count, padded, ac, skips, codes, limits, offsets, values, k
):
    """Skip the coefficients of a block.

    One look-up takes WINDOW + 10 bits at most, and a long code with its value 26. Both are fewer
    than the 32 that are in the buffer.

    Args:
        data, end, at, bits, count, padded: See `jpeg_codes.fill`.
        ac: The number of the set of codes, from 4 on, uint64.
        skips, codes, limits, offsets, values: See `jpeg_layout.Layout`.
        k: The first coefficient to skip, from 1 on.

    Returns:
        (at, bits, count, padded). at = 0: a code is impossible.
    """
    while k < 64:
        if count < 32:
            at, bits, count, padded = fill(data, end, at, bits, count, padded)
        found = np.int64(skips[ac - np.uint64(4), bits >> _SHIFT])
        passed = (found >> 5) & 63
        if found and k + passed <= 64 - (found >> 11):
            bits <<= found & 31
            count -= found & 31
            if found >> 11:
                break
            k += passed
            continue
        length, run, size = _symbol(bits, ac, codes, limits, offsets, values)
        if length == 0:
            return 0, bits, count, padded
        bits <<= length + size
        count -= length + size
        if run == 0 and size == 0:
            break
        k += run + 1
        if k > 64:
            return 0, bits, count, padded
    return at, bits, count, padded


@kernel(_nrt=False, forceinline=True)
def read_block(  # type: ignore[no-untyped-def]
    data, end, at, bits, count, padded, ac, coefficients, codes, limits, offsets, values, last,
    quantization, table, outputs, block,
):  # fmt: skip
    """Add the AC coefficients of a block up to the last one that is needed.

    Args:
        data, end, at, bits, count, padded: See `jpeg_codes.fill`.
        ac: The number of the set of codes, from 4 on, uint64.
        coefficients, codes, limits, offsets, values: See `jpeg_layout.Layout`.
        last: The last coefficient that has an effect.
        quantization: See `jpeg_layout.Layout`.
        table: The number of the quantization table.
        outputs, block: See `jpeg_pixels.add_frequency`.

    Returns:
        (k, at, bits, count, padded). k is the next coefficient; 64: the block ended; 0: a code is
        impossible.
    """
    k: Any = 1
    while k <= last:
        if count < 32:
            at, bits, count, padded = fill(data, end, at, bits, count, padded)
        found = np.int64(coefficients[ac - np.uint64(4), bits >> _SHIFT])
        if found:
            bits <<= found & 31
            count -= found & 31
            k += ((found >> 5) & 15) + 1
            if k > 64:
                return 0, at, bits, count, padded
            value = np.float32(found >> 9) * quantization[table, k - 1]
            add_frequency(block, k - 1, value, outputs)
            continue
        length, run, size = _symbol(bits, ac, codes, limits, offsets, values)
        if length == 0:
            return 0, at, bits, count, padded
        bits <<= length
        count -= length
        if run == 0 and size == 0:
            return 64, at, bits, count, padded
        k += run + 1
        if k > 64:
            return 0, at, bits, count, padded
        if size:
            value = np.float32(signed(bits, size)) * quantization[table, k - 1]
            add_frequency(block, k - 1, value, outputs)
            bits <<= size
            count -= size
    return k, at, bits, count, padded
