"""The geometry of `slipform.pipelines.plan.kernels` in a Triton kernel: crop, affine, perspective.

In: blocks of samples with their stored sizes, and the numbers of `slipform.pipelines.plan.device`.
Out: boxes, matrices and reduced sizes. The operations and their order are those of `kernels`.
"""

from __future__ import annotations

import triton
import triton.language as tl

from slipform.pipelines.plan.triton_philox import rint, uniforms

__all__ = ["box_of", "reduced_of", "store_row", "warp_of"]


@triton.jit
def box_of(seed, epoch, index, height, width, size, numbers, CROP: tl.constexpr):
    """The crop of each sample.

    Args:
        seed, epoch: The stream of random numbers.
        index: int64 [BLOCK], the samples.
        height, width: float64 [BLOCK], sizes of the stored images in pixels.
        size: Side of the output in pixels.
        numbers: float64 [48], from `device.table`.
        CROP: Code of `kernels.CROPS`.

    Returns:
        x, y, width, height in stored pixels, float64 [BLOCK].
    """
    if CROP == 3:
        return width * 0, width * 0, width, height
    if CROP == 2:
        return _random_resized_box(seed, epoch, index, height, width, numbers)
    resize, padding = tl.load(numbers + 1), tl.load(numbers + 2)
    shorter = tl.where(height <= width, resize, tl.floor(resize * height / width))
    resized_height = tl.where(resize > 0, shorter, height)
    shorter = tl.where(width <= height, resize, tl.floor(resize * width / height))
    resized_width = tl.where(resize > 0, shorter, width)
    _, _, u2, u3 = uniforms(seed, epoch, index, 0)
    left = _offset(resized_width, size, padding, u2, CROP)
    top = _offset(resized_height, size, padding, u3, CROP)
    factor_x, factor_y = width / resized_width, height / resized_height
    return left * factor_x, top * factor_y, size * factor_x, size * factor_y


@triton.jit
def _offset(length, size, padding, u, CROP: tl.constexpr):
    """The position where the crop begins on one axis."""
    center = -tl.floor((size - length) * 0.5)
    room = length + 2 * padding - size
    if CROP == 1:
        return tl.where(room < 0, center, tl.floor(u * (room + 1)) - padding)
    return tl.where(length < size, center, rint((length - size) * 0.5))


@triton.jit
def _random_resized_box(seed, epoch, index, height, width, numbers):
    """Ten attempts to draw area and shape, then the largest central box of an allowed shape."""
    narrowest, widest = tl.load(numbers + 7), tl.load(numbers + 8)
    whole = width / height
    w = tl.where(whole > widest, tl.maximum(1.0, rint(height * widest)), width)
    h = tl.where(whole < narrowest, tl.maximum(1.0, rint(width / narrowest)), height)
    x, y = tl.floor((width - w) * 0.5), tl.floor((height - h) * 0.5)
    found = width < 0
    for attempt in range(10):
        u0, u1, u2, u3 = uniforms(seed, epoch, index, attempt)
        target = height * width * (tl.load(numbers + 3) + u0 * tl.load(numbers + 4))
        shape = tl.exp(tl.load(numbers + 5) + u1 * tl.load(numbers + 6))
        wide, high = rint(tl.sqrt(target * shape)), rint(tl.sqrt(target / shape))
        fits = (wide > 0) & (wide <= width) & (high > 0) & (high <= height) & (found == 0)
        x = tl.where(fits, tl.floor(u2 * (width - wide + 1)), x)
        y = tl.where(fits, tl.floor(u3 * (height - high + 1)), y)
        w, h = tl.where(fits, wide, w), tl.where(fits, high, h)
        found = found | fits
    return x, y, w, h


@triton.jit
def warp_of(seed, epoch, index, height, width, size, numbers, m00, m02, m11, m12, g, live):
    """Write the geometry of each sample: box, affine part and perspective.

    Args:
        seed, epoch: The stream of random numbers.
        index: int64 [BLOCK], the samples.
        height, width: float64 [BLOCK], size of what is reduced before the warp, in pixels.
        size: Side of the output in pixels.
        numbers: float64 [48], from `device.table`.
        m00, m02, m11, m12: float64 [BLOCK], the matrix of the box: output point -> stored point.
        g: Where the geometry of each sample is written, pointers to float32.
        live: bool [BLOCK], False: the sample does not exist.

    Returns:
        The reduced height and width in pixels, float64 [BLOCK].
    """
    u0, u1, u2, u3 = uniforms(seed, epoch, index, 12)
    v0, v1, _, _ = uniforms(seed, epoch, index, 13)
    to_radians = tl.load(numbers + 16)
    angle = (2 * u0 - 1) * tl.load(numbers + 10) * to_radians
    slant = (2 * u1 - 1) * tl.load(numbers + 11) * to_radians
    shear = tl.sin(slant) / tl.cos(slant)
    move_x = rint((2 * u2 - 1) * tl.load(numbers + 12) * size)
    move_y = rint((2 * u3 - 1) * tl.load(numbers + 13) * size)
    zoom = tl.load(numbers + 14) + v0 * tl.load(numbers + 15)
    cos, sin = tl.cos(angle) / zoom, tl.sin(angle) / zoom
    a00, a01, a10, a11 = cos + shear * sin, sin - shear * cos, -sin, cos
    middle = size * 0.5
    a02 = middle - a00 * (middle + move_x) - a01 * (middle + move_y)
    a12 = middle - a10 * (middle + move_x) - a11 * (middle + move_y)
    # box · affine. Beside the diagonal and the last column, the matrix of the box is 0.
    b00, b01, b02 = m00 * a00, m00 * a01, m00 * a02 + m02
    b10, b11, b12 = m11 * a10, m11 * a11, m11 * a12 + m12
    c00, c01, c02, c10, c11, c12, c20, c21, c22, bent = _inverse_perspective(
        seed, epoch, index, size, numbers, v1
    )
    f00 = tl.where(bent, b00 * c00 + b01 * c10 + b02 * c20, b00).to(tl.float32)
    f01 = tl.where(bent, b00 * c01 + b01 * c11 + b02 * c21, b01).to(tl.float32)
    f02 = tl.where(bent, b00 * c02 + b01 * c12 + b02 * c22, b02).to(tl.float32)
    f10 = tl.where(bent, b10 * c00 + b11 * c10 + b12 * c20, b10).to(tl.float32)
    f11 = tl.where(bent, b10 * c01 + b11 * c11 + b12 * c21, b11).to(tl.float32)
    f12 = tl.where(bent, b10 * c02 + b11 * c12 + b12 * c22, b12).to(tl.float32)
    f20 = tl.where(bent, c20, 0.0).to(tl.float32)
    f21 = tl.where(bent, c21, 0.0).to(tl.float32)
    f22 = tl.where(bent, c22, 1.0).to(tl.float32)
    store_row(g, f00, f01, f02, live)
    store_row(g + 3, f10, f11, f12, live)
    store_row(g + 6, f20, f21, f22, live)
    return reduced_of(f00, f01, f02, f10, f11, f12, f20, f21, f22, height, width, middle)


@triton.jit
def reduced_of(f00, f01, f02, f10, f11, f12, f20, f21, f22, height, width, middle):
    """`taps.reduced_size` of the geometry of each sample in float32, as it is stored.

    Args:
        f00, f01, f02, f10, f11, f12, f20, f21, f22: The geometry, float32 [BLOCK].
        height, width: float64 [BLOCK], size of what is reduced, in pixels.
        middle: Half of the side of the output, float64.

    Returns:
        The reduced height and width in pixels, float64 [BLOCK].
    """
    depth = f20 * middle + f21 * middle + f22
    x = (f00 * middle + f01 * middle + f02) / depth
    y = (f10 * middle + f11 * middle + f12) / depth
    span_x = _hypot(f00 - x * f20, f01 - x * f21) / tl.abs(depth)
    span_y = _hypot(f10 - y * f20, f11 - y * f21) / tl.abs(depth)
    small_height = tl.maximum(1.0, rint(height / tl.maximum(1.0, span_y)))
    return small_height, tl.maximum(1.0, rint(width / tl.maximum(1.0, span_x)))


@triton.jit
def _hypot(a, b):
    return tl.sqrt(a * a + b * b)


@triton.jit
def _inverse_perspective(seed, epoch, index, size, numbers, chance):
    """The nine numbers of `kernels._inverse_perspective`, and for which samples they are valid."""
    reach = tl.load(numbers + 18)
    u0, u1, u2, u3 = uniforms(seed, epoch, index, 14)
    v0, v1, v2, v3 = uniforms(seed, epoch, index, 15)
    x0, y0 = tl.floor(u0 * reach), tl.floor(u1 * reach)
    x1, y1 = size - tl.floor(u2 * reach), tl.floor(u3 * reach)
    x2, y2 = size - tl.floor(v0 * reach), size - tl.floor(v1 * reach)
    x3, y3 = tl.floor(v2 * reach), size - tl.floor(v3 * reach)
    dx1, dx2, dx = x1 - x2, x3 - x2, x0 - x1 + x2 - x3
    dy1, dy2, dy = y1 - y2, y3 - y2, y0 - y1 + y2 - y3
    det = dx1 * dy2 - dx2 * dy1
    bent = (chance < tl.load(numbers + 17)) & (det != 0)
    det = tl.where(det == 0, det + 1, det)
    g, h = (dx * dy2 - dx2 * dy) / det, (dx1 * dy - dx * dy1) / det
    a, b, c = x1 - x0 + g * x1, x3 - x0 + h * x3, x0
    d, e, f = y1 - y0 + g * y1, y3 - y0 + h * y3, y0
    volume = a * (e - f * h) - b * (d - f * g) + c * (d * h - e * g)
    bent = bent & (volume != 0)
    volume = tl.where(volume == 0, volume + 1, volume)
    return (
        size * (e - f * h) / volume,
        size * (c * h - b) / volume,
        size * (b * f - c * e) / volume,
        size * (f * g - d) / volume,
        size * (a - c * g) / volume,
        size * (c * d - a * f) / volume,
        (d * h - e * g) / volume,
        (b * g - a * h) / volume,
        (a * e - b * d) / volume,
        bent,
    )


@triton.jit
def store_row(out, a, b, c, live):
    """Store three numbers of each sample.

    Args:
        out: Where the first one is written, pointers [BLOCK].
        a, b, c: The numbers, [BLOCK].
        live: bool [BLOCK], False: nothing is written.
    """
    tl.store(out, a, mask=live)
    tl.store(out + 1, b, mask=live)
    tl.store(out + 2, c, mask=live)
