"""Stored pixels in a Triton kernel, read as words of 32 bits.

In: an image and positions in it. Out: pixels, or sums of several pixels with weights, in float32.

Whole words are loaded, for several neighbors of a row together, because the load unit limits the
speed: a load of each byte is three loads for a pixel. Positions inside an image have 32 bits. A
word is loaded only if it has a byte of one of the pixels. Callers with fewer pixels than that, at
the end of an image, read up to `launch.READ_AFTER` bytes after it, and do not use them.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["add_2", "add_4", "image_at", "pixel"]


@triton.jit
def image_at(pixels, offset):
    """Where an image begins.

    Args:
        pixels: Pointer to uint8, a multiple of 4.
        offset: The number of bytes from there to the image, int64; it may be negative.

    Returns:
        A pointer to uint32, and the position of the first byte of the image after it, 0 to 3.
    """
    words = pixels.to(tl.pointer_type(tl.uint32)) + (offset >> 2)
    return words, (offset & 3).to(tl.int32)


@triton.jit
def pixel(words, at):
    """Load a pixel.

    Args:
        words: The image from `image_at`.
        at: The position of its first byte.

    Returns:
        (red, green, blue), float32.
    """
    word, shift = words + (at >> 2), (at & 3) << 3
    a = tl.load(word)
    a = _moved(a, tl.load(word + 1, mask=shift >= 16, other=0), shift)
    return _byte(a, 0), _byte(a, 1), _byte(a, 2)


@triton.jit
def add_2(words, at, weight_0, weight_1, red, green, blue):
    """Add two neighboring pixels with weights.

    Args:
        words: The image from `image_at`.
        at: The position of the first byte of the first pixel.
        weight_0, weight_1: The weights.
        red, green, blue: What to add to.

    Returns:
        (red, green, blue), float32.
    """
    word, shift = words + (at >> 2), (at & 3) << 3
    a, b = tl.load(word), tl.load(word + 1)
    c = tl.load(word + 2, mask=shift == 24, other=0)
    a, b = _moved(a, b, shift), _moved(b, c, shift)
    red = red + weight_0 * _byte(a, 0) + weight_1 * _byte(a, 3)
    green = green + weight_0 * _byte(a, 1) + weight_1 * _byte(b, 0)
    blue = blue + weight_0 * _byte(a, 2) + weight_1 * _byte(b, 1)
    return red, green, blue


@triton.jit
def add_4(words, at, weight_0, weight_1, weight_2, weight_3, red, green, blue):
    """Add four neighboring pixels with weights.

    Args:
        words, at, red, green, blue: As for `add_2`.
        weight_0, weight_1, weight_2, weight_3: The weights.

    Returns:
        (red, green, blue), float32.
    """
    word, shift = words + (at >> 2), (at & 3) << 3
    a, b, c = tl.load(word), tl.load(word + 1), tl.load(word + 2)
    d = tl.load(word + 3, mask=shift > 0, other=0)
    a, b, c = _moved(a, b, shift), _moved(b, c, shift), _moved(c, d, shift)
    red = red + weight_0 * _byte(a, 0) + weight_1 * _byte(a, 3)
    green = green + weight_0 * _byte(a, 1) + weight_1 * _byte(b, 0)
    blue = blue + weight_0 * _byte(a, 2) + weight_1 * _byte(b, 1)
    red = red + weight_2 * _byte(b, 2) + weight_3 * _byte(c, 1)
    green = green + weight_2 * _byte(b, 3) + weight_3 * _byte(c, 2)
    blue = blue + weight_2 * _byte(c, 0) + weight_3 * _byte(c, 3)
    return red, green, blue


@triton.jit
def _moved(low, high, shift):
    """32 bits of the 64 of two words, from the bit `shift`."""
    both = (high.to(tl.uint64) << 32) | low.to(tl.uint64)
    return (both >> shift.to(tl.uint64)).to(tl.uint32)


@triton.jit
def _byte(word, k: tl.constexpr):
    """Byte `k` of a word, float32."""
    return ((word >> (8 * k)) & 255).to(tl.float32)
