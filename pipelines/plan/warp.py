"""Rotation, shear, zoom, translation and perspective of one sample. Compiled by numba.

In: `kernels.NUMBERS`, seed, epoch, sample. Out: a matrix, float64 [3, 3]: output point -> point
before the change. Draws 12 to 15 of a sample are taken here.
"""

from __future__ import annotations

import numpy as np

from slipform.pipelines.kernel import kernel
from slipform.pipelines.plan.philox import uniforms

__all__ = ["inverse_affine", "inverse_perspective", "multiply"]


@kernel
def inverse_affine(numbers, size, key, epoch, sample, out):
    """Output point -> point before rotation, shear, zoom and translation about the center of the
    output. This is the inverse of torchvision's RandomAffine.

    Args:
        numbers: A record of `kernels.NUMBERS`.
        size: Side of the output in pixels, float64.
        key, epoch, sample: uint64.
        out: Output, float64 [3, 3].
    """
    u = uniforms(key, epoch, sample, np.uint64(12))
    v = uniforms(key, epoch, sample, np.uint64(13))
    angle = np.deg2rad((2 * u[0] - 1) * numbers.rotation)
    shear = np.tan(np.deg2rad((2 * u[1] - 1) * numbers.shear))
    tx = np.rint((2 * u[2] - 1) * numbers.translate[0] * size)
    ty = np.rint((2 * u[3] - 1) * numbers.translate[1] * size)
    zoom = numbers.zoom[0] + v[0] * (numbers.zoom[1] - numbers.zoom[0])
    cos, sin = np.cos(angle) / zoom, np.sin(angle) / zoom
    # Forward: rotate(angle) · shear_x · zoom. Inverse: unshear · rotate(-angle) / zoom.
    out[0, 0], out[0, 1] = cos + shear * sin, sin - shear * cos
    out[1, 0], out[1, 1] = -sin, cos
    cx, cy = size / 2 + tx, size / 2 + ty
    out[0, 2] = size / 2 - out[0, 0] * cx - out[0, 1] * cy
    out[1, 2] = size / 2 - out[1, 0] * cx - out[1, 1] * cy
    out[2, 0], out[2, 1], out[2, 2] = 0.0, 0.0, 1.0


@kernel
def inverse_perspective(numbers, size, key, epoch, sample, out):
    """Output point -> point before torchvision's RandomPerspective, which moves the corners inward.

    The map of the unit square to a quadrilateral is that of Heckbert, "Fundamentals of Texture
    Mapping and Image Warping", 1989.

    Args:
        numbers: A record of `kernels.NUMBERS`.
        size: Side of the output in pixels, float64.
        key, epoch, sample: uint64.
        out: Output, float64 [3, 3].

    Returns:
        False: the sample is not distorted, by chance, or because three corners are on a line (only
        near perspective = 1), and the map has no inverse.
    """
    if (
        uniforms(key, epoch, sample, np.uint64(13))[1] >= numbers.perspective_probability
        or numbers.perspective == 0.0
    ):
        return False
    reach = int(numbers.perspective * (size // 2)) + 1
    u = uniforms(key, epoch, sample, np.uint64(14))
    v = uniforms(key, epoch, sample, np.uint64(15))
    x0, y0 = np.floor(u[0] * reach), np.floor(u[1] * reach)
    x1, y1 = size - np.floor(u[2] * reach), np.floor(u[3] * reach)
    x2, y2 = size - np.floor(v[0] * reach), size - np.floor(v[1] * reach)
    x3, y3 = np.floor(v[2] * reach), size - np.floor(v[3] * reach)
    dx1, dx2, dx = x1 - x2, x3 - x2, x0 - x1 + x2 - x3
    dy1, dy2, dy = y1 - y2, y3 - y2, y0 - y1 + y2 - y3
    det = dx1 * dy2 - dx2 * dy1
    if det == 0.0:
        return False
    g, h = (dx * dy2 - dx2 * dy) / det, (dx1 * dy - dx * dy1) / det
    a, b, c = x1 - x0 + g * x1, x3 - x0 + h * x3, x0
    d, e, f = y1 - y0 + g * y1, y3 - y0 + h * y3, y0
    volume = a * (e - f * h) - b * (d - f * g) + c * (d * h - e * g)
    if volume == 0.0:
        return False
    # The inverse with its sign, then unit square -> output. The third component is positive for
    # points in front of the camera.
    out[0, 0], out[0, 1], out[0, 2] = size * (e - f * h), size * (c * h - b), size * (b * f - c * e)
    out[1, 0], out[1, 1], out[1, 2] = size * (f * g - d), size * (a - c * g), size * (c * d - a * f)
    out[2, 0], out[2, 1], out[2, 2] = d * h - e * g, b * g - a * h, a * e - b * d
    out /= volume
    return True


@kernel
def multiply(a, b, out):
    """The product of two matrices.

    Args:
        a, b: float64 [3, 3].
        out: Output, float64 [3, 3].
    """
    for i in range(3):
        for j in range(3):
            out[i, j] = a[i, 0] * b[0, j] + a[i, 1] * b[1, j] + a[i, 2] * b[2, j]
