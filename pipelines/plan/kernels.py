"""The kernel behind `slipform.pipelines.plan.plan.draw`: random numbers -> box, flips, warp, color.

In: `Numbers` (an Augmentation without strings), indices, sizes, seed and epoch. Out: the arrays of
the Plan, filled. The code is compiled by numba. Each kind of augmentation has draws with fixed
numbers, so a new kind does not change the random numbers of the others. These are taken:

    0..9 crop (attempts)   10 flips, grayscale, erase   11 color jitter
    12 rotation, shear, translation   13 zoom, perspective   14, 15 corners of perspective
    20..29 erasing (attempts)   30 parity of the alternating flip   31 noise in erased boxes
    32 blur (`sigmas`)   40..150, 200..439 policies (`chains`)
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from slipform.pipelines.kernel import kernel
from slipform.pipelines.plan.erasing import draw_box
from slipform.pipelines.plan.philox import uniforms

__all__ = ["CROPS", "FLIPS", "GRAY", "Numbers", "draw"]

# The codes of `Augmentation.crop` and `Augmentation.flip`.
CROPS = {"center": 0, "random": 1, "random_resized": 2, "none": 3}
FLIPS = {"none": 0, "horizontal": 1, "vertical": 2, "both": 3, "alternating": 4}
_RANDOM, _RANDOM_RESIZED, _SQUEEZE = 1, 2, 3
GRAY = (0.2989, 0.587, 0.114)  # luma of ITU-R BT.601, rounded as in torchvision


class Numbers(NamedTuple):
    """An Augmentation in a form that numba accepts. See `Augmentation` for the meanings.

    Attributes:
        image_size, resize, padding, scale, ratio, flip_probability: As there.
        crop, flip: Codes in CROPS and FLIPS.
        warp: Whether the geometry is not axis-aligned.
        cut: Whether `clip` is the crop, rounded to stored pixels, because what is outside is black:
            to the nearest ones if there is a warp, else outward.
        rotation, perspective, perspective_probability, translate, zoom, shear, grayscale, erase: As
            there.
        brightness, contrast, saturation, hue: Of the color jitter.
        mean, std: Per channel (R, G, B), in 0..1.
    """

    image_size: int
    resize: int
    crop: int
    padding: int
    scale: tuple[float, float]
    ratio: tuple[float, float]
    flip: int
    flip_probability: float
    warp: bool
    cut: bool
    rotation: float
    perspective: float
    perspective_probability: float
    translate: tuple[float, float]
    zoom: tuple[float, float]
    shear: float
    brightness: float
    contrast: float
    saturation: float
    hue: float
    grayscale: float
    erase: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@kernel
def draw(indices, heights, widths, key, epoch, numbers, geometry, color, clip, erase):
    """Draw the Plan of a batch.

    Args:
        indices: int64 [N], the samples.
        heights, widths: int32 [N], sizes of the stored images in pixels.
        key: uint64, the seed.
        epoch: uint64.
        numbers: `Numbers`.
        geometry: Output, float32 [N, 3, 3].
        color: Output, float32 [N, 3, 4].
        clip, erase: Output, int32 [N, 4].
    """
    size = float(numbers.image_size)
    matrix, other, product = np.empty((3, 3)), np.empty((3, 3)), np.empty((3, 3))
    jitters = numbers.brightness > 0 or numbers.contrast > 0 or numbers.saturation > 0
    jitters = jitters or numbers.hue > 0 or numbers.grayscale > 0
    same = np.empty((3, 4), np.float32)  # the colors of all samples without jitter
    _color(numbers, False, 0.5, 0.5, 0.5, 0.5, same)
    for i in range(len(indices)):
        sample = np.uint64(indices[i])
        height, width = heights[i], widths[i]
        x, y, w, h = _box(numbers, height, width, key, epoch, sample)
        u = uniforms(key, epoch, sample, np.uint64(10))
        mirror, upend = _flips(numbers, u[0], u[1], key, epoch, sample)
        gray = u[2] < numbers.grayscale
        # Output point -> stored point: scale to the box, mirrored if it is flipped.
        scale_x, left = (-w / size, x + w) if mirror else (w / size, x)
        scale_y, top = (-h / size, y + h) if upend else (h / size, y)
        if numbers.warp:
            matrix[:] = 0.0
            matrix[0, 0], matrix[0, 2], matrix[1, 1], matrix[1, 2] = scale_x, left, scale_y, top
            matrix[2, 2] = 1.0
            _inverse_affine(numbers, size, key, epoch, sample, other)
            _multiply(matrix, other, product)
            if _inverse_perspective(numbers, size, key, epoch, sample, other):
                _multiply(product, other, matrix)
            else:
                matrix[:] = product
            geometry[i] = matrix
        else:
            geometry[i] = 0.0
            geometry[i, 0, 0], geometry[i, 0, 2] = scale_x, left
            geometry[i, 1, 1], geometry[i, 1, 2], geometry[i, 2, 2] = scale_y, top, 1.0
        if numbers.crop == _RANDOM_RESIZED and not numbers.warp:
            # torchvision's resized_crop reads no pixels outside the box.
            clip[i, 0], clip[i, 1], clip[i, 2], clip[i, 3] = x, y, x + w, y + h
        elif numbers.cut and numbers.warp:
            clip[i, 0], clip[i, 1] = max(np.rint(x), 0), max(np.rint(y), 0)
            clip[i, 2] = min(np.rint(x + w), width)
            clip[i, 3] = min(np.rint(y + h), height)
        elif numbers.cut:
            # Outward, so that no output pixel of the crop is outside. A millionth for rounding.
            clip[i, 0], clip[i, 1] = max(np.floor(x + 1e-6), 0), max(np.floor(y + 1e-6), 0)
            clip[i, 2] = min(np.ceil(x + w - 1e-6), width)
            clip[i, 3] = min(np.ceil(y + h - 1e-6), height)
        else:
            clip[i, 0], clip[i, 1], clip[i, 2], clip[i, 3] = 0, 0, width, height
        if jitters:
            u = uniforms(key, epoch, sample, np.uint64(11))
            _color(numbers, gray, u[0], u[1], u[2], u[3], color[i])
        else:
            color[i] = same
        draw_box(numbers, key, epoch, sample, erase[i])


@kernel
def _box(numbers, height, width, key, epoch, sample):
    """The crop (x, y, width, height) in stored pixels. It may be fractional after a resize."""
    size = numbers.image_size
    if numbers.crop == _SQUEEZE:
        return 0.0, 0.0, float(width), float(height)
    if numbers.crop == _RANDOM_RESIZED:
        return _random_resized_box(numbers, height, width, key, epoch, sample)
    resized_h, resized_w = height, width
    if numbers.resize > 0:
        resized_h = numbers.resize if height <= width else int(numbers.resize * height / width)
        resized_w = numbers.resize if width <= height else int(numbers.resize * width / height)
    u = uniforms(key, epoch, sample, np.uint64(0))
    left = _offset(numbers.crop, resized_w, size, numbers.padding, u[2])
    top = _offset(numbers.crop, resized_h, size, numbers.padding, u[3])
    fx, fy = width / resized_w, height / resized_h
    return left * fx, top * fy, size * fx, size * fy


@kernel
def _offset(crop, length, size, padding, u):
    """The position where the crop begins on one axis. Negative: it begins outside the image."""
    if length + 2 * padding < size:
        return -float((size - length) // 2)
    if crop == _RANDOM:
        return float(int(u * (length + 2 * padding - size + 1)) - padding)
    if length < size:
        return -float((size - length) // 2)
    return np.rint((length - size) / 2)


@kernel
def _random_resized_box(numbers, height, width, key, epoch, sample):
    """torchvision's RandomResizedCrop: ten attempts to draw area and shape, then the largest
    central box of an allowed shape."""
    low, high = np.log(numbers.ratio[0]), np.log(numbers.ratio[1])
    area = float(height) * float(width)
    for attempt in range(10):
        u = uniforms(key, epoch, sample, np.uint64(attempt))
        target = area * (numbers.scale[0] + u[0] * (numbers.scale[1] - numbers.scale[0]))
        shape = np.exp(low + u[1] * (high - low))
        w, h = np.rint(np.sqrt(target * shape)), np.rint(np.sqrt(target / shape))
        if 0 < w <= width and 0 < h <= height:
            return np.floor(u[2] * (width - w + 1)), np.floor(u[3] * (height - h + 1)), w, h
    shape = width / height
    w, h = float(width), float(height)
    if shape < numbers.ratio[0]:
        h = max(1.0, np.rint(w / numbers.ratio[0]))
    elif shape > numbers.ratio[1]:
        w = max(1.0, np.rint(h * numbers.ratio[1]))
    return np.floor((width - w) / 2), np.floor((height - h) / 2), w, h


@kernel
def _flips(numbers, u0, u1, key, epoch, sample):
    """Whether the sample is mirrored: (left and right, top and bottom)."""
    chance = numbers.flip_probability
    if numbers.flip == 4:
        parity = uniforms(key, np.uint64(0), sample, np.uint64(30))[0] < 0.5
        return ((epoch & np.uint64(1)) == np.uint64(1)) != parity, False
    return (numbers.flip in (1, 3)) and u0 < chance, (numbers.flip in (2, 3)) and u1 < chance


@kernel
def _inverse_affine(numbers, size, key, epoch, sample, out):
    """Output point -> point before rotation, shear, zoom and translation about the center of the
    output. This is the inverse of torchvision's RandomAffine."""
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
def _inverse_perspective(numbers, size, key, epoch, sample, out):
    """Output point -> point before torchvision's RandomPerspective, which moves the corners inward.

    The map of the unit square to a quadrilateral is that of Heckbert, "Fundamentals of Texture
    Mapping and Image Warping", 1989. Returns False if the sample is not distorted: by chance, or
    because three corners are on a line (only near perspective = 1), and the map has no inverse.
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
def _multiply(a, b, out):
    for i in range(3):
        for j in range(3):
            out[i, j] = a[i, 0] * b[0, j] + a[i, 1] * b[1, j] + a[i, 2] * b[2, j]


@kernel
def _factor(u, strength):
    low = max(0.0, 1.0 - strength)
    return low + u * (1.0 + strength - low)


@kernel
def _color(numbers, gray, u0, u1, u2, u3, out):
    """Brightness, contrast about 0.5, saturation, hue, grayscale and normalization as one affine
    map of 0..255: float32 [3, 4]."""
    brightness, contrast = _factor(u0, numbers.brightness), _factor(u1, numbers.contrast)
    saturation = 0.0 if gray else _factor(u2, numbers.saturation)
    angle = 2 * np.pi * (2 * u3 - 1) * numbers.hue
    cos, sin = np.cos(angle), np.sin(angle) / np.sqrt(3.0)
    gain, shift = brightness * contrast / 255.0, 0.5 * (1.0 - contrast)
    for c in range(3):
        # Row c of hue · saturation; hue: Rodrigues' rotation about (1, 1, 1).
        r0 = (1 - cos) / 3 + (cos if c == 0 else (sin if c == 1 else -sin))
        r1 = (1 - cos) / 3 + (cos if c == 1 else (sin if c == 2 else -sin))
        r2 = (1 - cos) / 3 + (cos if c == 2 else (sin if c == 0 else -sin))
        if gray:
            r0, r1, r2 = 1.0, 0.0, 0.0
        total, scale = r0 + r1 + r2, 1.0 / numbers.std[c]
        out[c, 0] = gain * scale * (saturation * r0 + (1 - saturation) * total * GRAY[0])
        out[c, 1] = gain * scale * (saturation * r1 + (1 - saturation) * total * GRAY[1])
        out[c, 2] = gain * scale * (saturation * r2 + (1 - saturation) * total * GRAY[2])
        luma = GRAY[0] + GRAY[1] + GRAY[2]
        out[c, 3] = (
            shift * total * (saturation + (1 - saturation) * luma) - numbers.mean[c]
        ) * scale
