"""The Huffman codes of a baseline JPEG: tables to look them up, and the buffer of bits.

In: the code lengths and symbols of a DHT segment, and the bytes of a scan. Out: symbols. Compiled
by numba. The layout is that of ITU-T T.81, annexes C and F.

A window is the next WINDOW bits. `codes` maps a window to the first symbol in it. `coefficients`
maps it to the first coefficient, if its value is in the window, too. `skips` maps it to the number
of coefficients whose codes are in it. Several coefficients that are not needed can thus be skipped
with one look-up. The bits of the last value may be after the window.

No function reads beyond `end` or the tables, whatever the bytes are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from slipform.pipelines.kernel import kernel

__all__ = [
    "WINDOW", "build_codes", "build_coefficients", "build_skips", "fill", "long_code", "stream_of",
]  # fmt: skip

# With 13 bits, skipping takes 5 % less time, but the tables take four times as long to make. Images
# with codes of their own need new ones.
WINDOW = 11
_ONES, _HIGH_BITS = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)


def stream_of(jpeg: bytes | npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """A JPEG stream as the kernels take it. They are compiled for one kind of array.

    Args:
        jpeg: The stream, bytes or uint8 [bytes].

    Returns:
        uint8 [bytes], a view that cannot be written to.
    """
    stream = np.frombuffer(jpeg, np.uint8)
    stream.flags.writeable = False
    return stream


@intrinsic
def _big_endian(typing_context, array, index):  # type: ignore[no-untyped-def]
    """Read eight bytes of a uint8 array from a position on, as a big-endian uint64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        word = builder.bitcast(builder.gep(data, [args[1]]), ir.IntType(64).as_pointer())
        value = builder.load(word)
        value.align = 1
        return builder.bswap(value)

    return types.uint64(array, index), codegen


@kernel(_nrt=False)
def fill(data, end, at, bits, count, padded):  # type: ignore[no-untyped-def]
    """Fill the buffer of bits to 56 bits or more.

    At a marker or at the end of the bytes it appends zeros.

    Args:
        data: The stream, uint8 [bytes].
        end: The position behind the last byte.
        at: The position of the next byte.
        bits: The buffer, uint64. The next bit is the highest.
        count: The number of bits in the buffer, below 56.
        padded: The number of zeros that were appended since the last marker.

    Returns:
        (at, bits, count, padded). padded > count: more bits were taken than the stream has.
    """
    if at + 8 <= end:
        word = _big_endian(data, at)
        if (~word - _ONES) & word & _HIGH_BITS == np.uint64(0):  # no byte is 0xFF
            taken = (63 - count) >> 3
            return at + taken, bits | (word >> count), count + 8 * taken, padded
    while count <= 56:
        byte = np.uint64(0)
        if at >= end:
            padded += 8
        elif data[at] != 0xFF:
            byte = np.uint64(data[at])
            at += 1
        elif at + 1 < end and data[at + 1] == 0:  # 0xFF of the data is followed by 0
            byte = np.uint64(0xFF)
            at += 2
        else:
            padded += 8
        bits |= byte << (56 - count)
        count += 8
    return at, bits, count, padded


@kernel(_nrt=False)
def build_codes(counts, values, codes, limits, offsets):  # type: ignore[no-untyped-def]
    """Make the tables of one set of Huffman codes.

    Args:
        counts: The number of codes of each length, uint8 [17]. Their sum is 256 at most.
        values: The symbols in the order of their codes, uint8 [256].
        codes: The table to fill, uint16 [2**WINDOW]: symbol * 256 + length, 0 for longer codes.
        limits: For each length the first code that is longer, in 16 bits, int32 [17].
        offsets: For each length the position of its first symbol less its first code, int32 [17].

    Returns:
        False if there are more codes than their lengths allow.
    """
    codes[:] = 0
    code, at = 0, 0
    for length in range(1, 17):
        for _ in range(counts[length]):
            if code >= (1 << length) - 1:  # the code of ones is reserved
                return False
            if length <= WINDOW:
                first = code << (WINDOW - length)
                codes[first : first + (1 << (WINDOW - length))] = values[at] * 256 + length
            at += 1
            code += 1
        limits[length] = code << (16 - length)
        offsets[length] = at - code
        code <<= 1
    return True


@kernel(_nrt=False)
def long_code(bits, table, limits, offsets, values):  # type: ignore[no-untyped-def]
    """The next symbol, if its code is longer than a window.

    Args:
        bits: The buffer of bits.
        table: The number of the set of codes.
        limits: See `build_codes`, int32 [sets, 17].
        offsets: See `build_codes`, int32 [sets, 17].
        values: See `build_codes`, uint8 [sets, 256].

    Returns:
        symbol * 256 + length; 0 if no code begins like this.
    """
    code = np.int64(bits >> np.uint64(48))
    for length in range(WINDOW + 1, 17):
        if code < limits[table, length]:
            at = (code >> (16 - length)) + offsets[table, length]
            return np.int64(values[table, at & 255]) * 256 + length
    return 0


@kernel(_nrt=False)
def build_coefficients(codes, coefficients):  # type: ignore[no-untyped-def]
    """Make the table of the coefficients that are whole in a window.

    Args:
        codes: See `build_codes`, of AC coefficients.
        coefficients: The table to fill, int32 [2**WINDOW]: bits + 32 * zeros before the coefficient
            + 512 * its value. 0: the first symbol has no value, or a longer one.
    """
    for window in range(1 << WINDOW):
        code = np.int64(codes[window])
        length, symbol = code & 255, code >> 8
        run, size = symbol >> 4, symbol & 15
        used = length + size
        coefficients[window] = 0
        if code != 0 and 0 < size <= 10 and used <= WINDOW:
            value = (window >> (WINDOW - used)) & ((1 << size) - 1)
            if value >> (size - 1) == 0:  # see `jpeg_blocks.signed`
                value -= (1 << size) - 1
            coefficients[window] = 512 * value + 32 * run + used


@kernel(_nrt=False)
def build_skips(codes, skips):  # type: ignore[no-untyped-def]
    """Make the table of the coefficients in a window.

    Args:
        codes: See `build_codes`, of AC coefficients.
        skips: The table to fill, uint16 [2**WINDOW]: bits + 32 * coefficients, with zeros
            among them; 1 << 11 is added if the block ends then. 0: look at the next symbol alone.
    """
    mask = (1 << WINDOW) - 1
    for window in range(1 << WINDOW):
        used: Any = 0
        passed: Any = 0
        ends = 0
        while used < WINDOW:
            code = np.int64(codes[(window << used) & mask])
            length, symbol = code & 255, code >> 8
            size, run = symbol & 15, symbol >> 4
            if code == 0 or used + length > WINDOW:
                break
            if size > 10 or (size == 0 and 0 < run < 15):  # impossible: reported where it is read
                break
            if symbol == 0:
                used += length
                ends = 1 << 11
                break
            if passed + run + 1 > 63:  # more than a block has
                break
            used += length + size
            passed += run + 1
        skips[window] = used + 32 * passed + ends
