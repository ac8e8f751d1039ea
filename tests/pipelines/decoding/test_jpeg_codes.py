"""The tables of Huffman codes: a look-up gives what reading symbol by symbol gives."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from slipform.pipelines.decoding.jpeg_codes import (
    WINDOW,
    build_codes,
    build_coefficients,
    build_skips,
)

Codes = npt.NDArray[np.uint16]


def _random_codes(seed: int) -> Codes:
    """Codes of AC coefficients. Some have short codes for long runs of zeros, more than a block
    has."""
    generator = np.random.default_rng(seed)
    counts, values = np.zeros(17, np.uint8), np.zeros(256, np.uint8)
    room = 1 << 16
    for length in range(1, 17):
        room_here = room >> (16 - length)
        counts[length] = generator.integers(0, min(room_here, 12)) if room_here > 1 else 0
        room -= int(counts[length]) << (16 - length)
    if seed == 0:
        counts[1], counts[2:] = 1, 0
    values[:] = generator.integers(0, 256, 256)
    values[0] = 0xF0
    codes = np.zeros(1 << WINDOW, np.uint16)
    assert build_codes(counts, values, codes, np.zeros(17, np.int32), np.zeros(17, np.int32))
    return codes


def _symbol(bits: str, codes: Codes) -> tuple[int, int, int]:
    """The length of the first code, the zeros before the coefficient, and the bits of its value."""
    code = int(codes[int(bits[:WINDOW].ljust(WINDOW, "0"), 2)])
    return code & 255, code >> 12, (code >> 8) & 15


def _skipped(bits: str, codes: Codes) -> tuple[int, int, bool]:
    """Bits, coefficients and whether the block ends, symbol by symbol."""
    used, passed = 0, 0
    while used < WINDOW:
        length, run, size = _symbol(bits[used:], codes)
        if not length or used + length > WINDOW or size > 10 or (size == 0 and 0 < run < 15):
            break
        if run == 0 and size == 0:
            return used + length, passed, True
        if passed + run + 1 > 63:
            break
        used, passed = used + length + size, passed + run + 1
    return used, passed, False


@pytest.mark.parametrize("seed", range(4))
def test_the_coefficients_that_are_skipped(seed: int) -> None:
    codes, skips = _random_codes(seed), np.zeros(1 << WINDOW, np.uint16)
    build_skips(codes, skips)
    for window in range(1 << WINDOW):
        found = int(skips[window])
        ours = found & 31, (found >> 5) & 63, bool(found >> 11)
        assert ours == _skipped(f"{window:0{WINDOW}b}", codes), window


@pytest.mark.parametrize("seed", range(4))
def test_the_coefficients_that_are_whole(seed: int) -> None:
    codes, coefficients = _random_codes(seed), np.zeros(1 << WINDOW, np.int32)
    build_coefficients(codes, coefficients)
    num = 0
    for window in range(1 << WINDOW):
        bits, found = f"{window:0{WINDOW}b}", int(coefficients[window])
        length, run, size = _symbol(bits, codes)
        if not length or not 0 < size <= 10 or length + size > WINDOW:
            assert found == 0
            continue
        num += 1
        value = int(bits[length : length + size], 2)
        if bits[length] == "0":  # T.81, F.2.2.1: a negative value less one
            value -= 2**size - 1
        assert (found & 31, (found >> 5) & 15, found >> 9) == (length + size, run, value)
    assert num > 100 or seed == 0
