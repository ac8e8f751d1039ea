"""The Plan of a batch, drawn on a GPU by one Triton kernel: `draw`.

In: the order of two epochs, the position in it, sizes and labels of all stored images, the numbers
of an Augmentation (`device.table`), all in the memory of the device. Out: indices and labels of the
batch, and its Plan in the form of `slipform.pipelines.rendering.triton.render`. `advance` moves the
position to the next batch. Nothing comes from the host, so each replay of a CUDA graph of these
kernels makes a new batch.

The arithmetic is that of `slipform.pipelines.plan.kernels`, which is the reference: the same Philox
words, and the same float64 operations in the same order. IEEE 754 defines the rounding of sums,
products, quotients and square roots, and `OPTIONS` does not allow to fuse them. Results of these
operations alone are equal bit for bit. This is the case without rotation, shear and hue. `exp`,
`sin` and `cos` may differ between two libraries in the last of 53 bits, and tan is sin / cos here.
A float32 that depends on them may differ in its last place, about once in 2**28. A box of
random_resized or of erasing is rounded to whole pixels after `exp`. It differs only if it is within
2**-50 of a half.
"""

from __future__ import annotations

import triton
import triton.language as tl

from slipform.pipelines.plan.triton_geometry import box_of, reduced_of, store_row, warp_of
from slipform.pipelines.plan.triton_philox import rint, uniforms, words

__all__ = ["BLOCK", "OPTIONS", "advance", "draw", "draw_sigmas"]

BLOCK = 128  # samples per program
# Keyword arguments of each launch.
OPTIONS = {"num_warps": 4, "enable_fp_fusion": False}


@triton.jit
def draw(
    order,
    position,
    sizes,
    labels_of,
    numbers,
    indices,
    labels,
    floats,
    ints,
    keys,
    count,
    total,
    first,
    CROP: tl.constexpr,
    FLIP: tl.constexpr,
    WARP: tl.constexpr,
    CUT: tl.constexpr,
    POLICY: tl.constexpr,
    JITTER: tl.constexpr,
    ERASE: tl.constexpr,
    NOISE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Draw a batch, on a grid of count / BLOCK programs, rounded up.

    Args:
        order: int64 [2, total], the samples of an even and of an odd epoch.
        position: int64 [3]: epoch, samples of it seen in the global order, seed.
        sizes: int32 [M, 2], height and width of each stored image.
        labels_of: int64 [M], label of each stored image.
        numbers: float64 [48], from `device.table`.
        indices, labels: Output, int64 [count].
        floats: Output, float32 [count, 21], as for `rendering.triton.render`.
        ints: Output, int32 [count, 10], as for `rendering.triton.render`.
        keys: Output, int64 [count], the bits of `Plan.erase_keys`; written with NOISE only.
        count: Samples of the batch.
        total: Samples of an epoch.
        first: Where the part of this process begins in a global batch.
        CROP, FLIP: Codes of `kernels`.
        WARP, CUT, JITTER, ERASE, NOISE: Whether the augmentation needs this part.
        POLICY: Whether there is a policy, which needs a pixel inside each crop.
        BLOCK: Samples per program.
    """
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = i < count
    epoch, seen, seed = tl.load(position), tl.load(position + 1), tl.load(position + 2)
    index = tl.load(order + (epoch % 2) * total + seen + first + i, mask=live, other=0)
    tl.store(indices + i, index, mask=live)
    tl.store(labels + i, tl.load(labels_of + index, mask=live, other=0), mask=live)
    height = tl.load(sizes + 2 * index, mask=live, other=1).to(tl.float64)
    width = tl.load(sizes + 2 * index + 1, mask=live, other=1).to(tl.float64)
    size = tl.load(numbers)
    x, y, w, h = box_of(seed, epoch, index, height, width, size, numbers, CROP)
    u0, u1, u2, u3 = uniforms(seed, epoch, index, 10)
    mirror, upend = u0 < 0, u0 < 0
    if FLIP == 1 or FLIP == 3:
        mirror = u0 < tl.load(numbers + 9)
    if FLIP == 2 or FLIP == 3:
        upend = u1 < tl.load(numbers + 9)
    if FLIP == 4:
        parity, _, _, _ = uniforms(seed, epoch * 0, index, 30)
        mirror = ((epoch & 1) == 1) != (parity < 0.5)
    gray = u2 < tl.load(numbers + 19)
    m00, m02 = tl.where(mirror, -w / size, w / size), tl.where(mirror, x + w, x)
    m11, m12 = tl.where(upend, -h / size, h / size), tl.where(upend, y + h, y)
    g = floats + 21 * i
    box = ints + 10 * i
    left, top, right, bottom = x * 0, x * 0, width, height
    if CROP == 2 and not WARP:
        left, top, right, bottom = x, y, x + w, y + h
    elif CUT and WARP:
        left, top = tl.maximum(rint(x), 0.0), tl.maximum(rint(y), 0.0)
        right, bottom = tl.minimum(rint(x + w), width), tl.minimum(rint(y + h), height)
    elif CUT:
        tiny = tl.load(numbers + 42)
        left = tl.maximum(tl.floor(x + tiny), 0.0)
        top = tl.maximum(tl.floor(y + tiny), 0.0)
        right = tl.minimum(tl.ceil(x + w - tiny), width)
        bottom = tl.minimum(tl.ceil(y + h - tiny), height)
    if POLICY:
        left, top = tl.minimum(left, width - 1), tl.minimum(top, height - 1)
        right, bottom = tl.maximum(right, left + 1), tl.maximum(bottom, top + 1)
    # What is reduced before a warp: the image, or the crop that is the image of a policy.
    high, wide = height, width
    if POLICY:
        high, wide = bottom - top, right - left
    small_height, small_width = height * 0, height * 0
    if WARP:
        small_height, small_width = warp_of(
            seed, epoch, index, high, wide, size, numbers, m00, m02, m11, m12, g, live
        )
    else:
        zero, one = (x * 0).to(tl.float32), (x * 0 + 1).to(tl.float32)
        f00, f02 = m00.to(tl.float32), m02.to(tl.float32)
        f11, f12 = m11.to(tl.float32), m12.to(tl.float32)
        store_row(g, f00, zero, f02, live)
        store_row(g + 3, zero, f11, f12, live)
        store_row(g + 6, zero, zero, one, live)
        if POLICY:
            small_height, small_width = reduced_of(
                f00, zero, f02, zero, f11, f12, zero, zero, one, high, wide, size * 0.5
            )
    _four(box, left, top, right, bottom, live)
    if NOISE:
        high, low, _, _ = words(seed, epoch, index, 31)
        tl.store(keys + i, (high.to(tl.int64) << 32) | low.to(tl.int64), mask=live)
    _color(seed, epoch, index, numbers, gray, g + 9, live, JITTER)
    if ERASE:
        _erase_box(seed, epoch, index, numbers, size, u3, box + 4, live)
    else:
        _four(box + 4, x * 0, x * 0, x * 0, x * 0, live)
    tl.store(box + 8, small_height.to(tl.int32), mask=live)
    tl.store(box + 9, small_width.to(tl.int32), mask=live)


@triton.jit
def draw_sigmas(position, indices, numbers, sigmas, count, BLOCK: tl.constexpr):
    """Draw the deviation of the blur of each sample, as `sigmas.draw_sigmas` does, on a grid of
    count / BLOCK programs, rounded up.

    Args:
        position: int64 [3], as for `draw`.
        indices: int64 [count], the samples.
        numbers: float64 [48], from `device.table`.
        sigmas: Output, float32 [count].
        count: Samples of the batch.
        BLOCK: Samples per program.
    """
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = i < count
    index = tl.load(indices + i, mask=live, other=0)
    u0, u1, _, _ = uniforms(tl.load(position + 2), tl.load(position), index, 32)
    sigma = tl.load(numbers + 44) + u1 * tl.load(numbers + 45)
    sigma = tl.where(u0 < tl.load(numbers + 43), sigma, 0.0)
    tl.store(sigmas + i, sigma.to(tl.float32), mask=live)


@triton.jit
def advance(position, total, batch):
    """Move the position by a global batch, or to the next epoch if no full one is left.

    The grid is one program.

    Args:
        position: int64 [3], as for `draw`.
        total: Samples of an epoch.
        batch: Samples of a global batch.
    """
    seen = tl.load(position + 1) + batch
    whole = seen + batch <= total
    tl.store(position + 1, tl.where(whole, seen, 0))
    tl.store(position, tl.load(position) + tl.where(whole, 0, 1))


@triton.jit
def _color(seed, epoch, index, numbers, gray, out, live, JITTER: tl.constexpr):
    """Brightness, contrast, saturation, hue, grayscale and normalization as one affine map."""
    one = index.to(tl.float64) * 0 + 1
    brightness, contrast, saturation, cos, sin = one, one, one, one, one * 0
    if JITTER:
        u0, u1, u2, u3 = uniforms(seed, epoch, index, 11)
        brightness = tl.load(numbers + 20) + u0 * tl.load(numbers + 21)
        contrast = tl.load(numbers + 22) + u1 * tl.load(numbers + 23)
        saturation = tl.load(numbers + 24) + u2 * tl.load(numbers + 25)
        angle = tl.load(numbers + 27) * (2 * u3 - 1) * tl.load(numbers + 26)
        cos, sin = tl.cos(angle), tl.sin(angle) / tl.load(numbers + 28)
    saturation = tl.where(gray, 0.0, saturation)
    gain, shift = brightness * contrast / 255.0, 0.5 * (1.0 - contrast)
    near = (1 - cos) / 3.0
    for c in tl.static_range(3):
        if c == 0:
            r0, r1, r2 = near + cos, near - sin, near + sin
        elif c == 1:
            r0, r1, r2 = near + sin, near + cos, near - sin
        else:
            r0, r1, r2 = near - sin, near + sin, near + cos
        r0, r1, r2 = tl.where(gray, 1.0, r0), tl.where(gray, 0.0, r1), tl.where(gray, 0.0, r2)
        total, scale = r0 + r1 + r2, tl.load(numbers + 36 + c)
        rest = (1 - saturation) * total
        first = gain * scale * (saturation * r0 + rest * tl.load(numbers + 29))
        second = gain * scale * (saturation * r1 + rest * tl.load(numbers + 30))
        third = gain * scale * (saturation * r2 + rest * tl.load(numbers + 31))
        luma = saturation + (1 - saturation) * tl.load(numbers + 32)
        fourth = (shift * total * luma - tl.load(numbers + 33 + c)) * scale
        at = out + 4 * c
        store_row(at, first.to(tl.float32), second.to(tl.float32), third.to(tl.float32), live)
        tl.store(at + 3, fourth.to(tl.float32), mask=live)


@triton.jit
def _erase_box(seed, epoch, index, numbers, size, chance, out, live):
    """The box of RandomErasing in output pixels. Four zeros: nothing is erased."""
    x, y, w, h = chance * 0, chance * 0, chance * 0, chance * 0
    open_ = chance < tl.load(numbers + 39)
    for attempt in range(10):
        u0, u1, u2, u3 = uniforms(seed, epoch, index, attempt + 20)
        area = size * size * (0.02 + u0 * 0.31)
        shape = tl.exp(tl.load(numbers + 40) + u1 * tl.load(numbers + 41))
        high, wide = rint(tl.sqrt(area * shape)), rint(tl.sqrt(area / shape))
        fits = (high < size) & (wide < size) & open_
        x = tl.where(fits, tl.floor(u2 * (size - wide + 1)), x)
        y = tl.where(fits, tl.floor(u3 * (size - high + 1)), y)
        w, h = tl.where(fits, wide, w), tl.where(fits, high, h)
        open_ = open_ & (fits == 0)
    _four(out, x, y, x + w, y + h, live)


@triton.jit
def _four(out, a, b, c, d, live):
    tl.store(out, a.to(tl.int32), mask=live)
    tl.store(out + 1, b.to(tl.int32), mask=live)
    tl.store(out + 2, c.to(tl.int32), mask=live)
    tl.store(out + 3, d.to(tl.int32), mask=live)
