"""The kernel behind `slipform.pipelines.plan.plan.draw`: random numbers -> box, flips, warp, color.

In: NUMBERS (an Augmentation without strings), indices, sizes, seed and epoch. Out: the arrays of
the Plan, filled. The code is compiled by numba. Each kind of augmentation has draws with fixed
numbers, so a new kind does not change the random numbers of the others. These are taken:

    0..9 crop (attempts)   10 flips, grayscale, erase   11 color jitter
    12 rotation, shear, translation   13 zoom, perspective   14, 15 corners of perspective
    20..29 erasing (attempts)   30 parity of the alternating flip   31 noise in erased boxes
    32 blur (`sigmas`)   40..150, 200..439 policies (`chains`)
"""

from __future__ import annotations

import numpy as np

from slipform.pipelines.kernel import kernel
from slipform.pipelines.plan.erasing import draw_box
from slipform.pipelines.plan.philox import AT_ONCE, uniforms, uniforms_of_many
from slipform.pipelines.plan.warp import inverse_affine, inverse_perspective, multiply

__all__ = ["CROPS", "FLIPS", "GRAY", "NUMBERS", "draw"]

# The codes of `Augmentation.crop` and `Augmentation.flip`.
CROPS = {"center": 0, "random": 1, "random_resized": 2, "none": 3}
FLIPS = {"none": 0, "horizontal": 1, "vertical": 2, "both": 3, "alternating": 4}
_RANDOM, _RANDOM_RESIZED, _SQUEEZE, _ALTERNATING = 1, 2, 3, 4
GRAY = (0.2989, 0.587, 0.114)  # luma of ITU-R BT.601, rounded as in torchvision


# An Augmentation in a form that numba reads from memory: see `Augmentation` for the meanings. As a
# tuple of 36 numbers, it was copied for each call of a function.
NUMBERS = np.dtype(
    [
        ("image_size", np.int64),
        ("resize", np.int64),
        ("crop", np.int64),  # a code in CROPS
        ("padding", np.int64),
        ("scale", np.float64, 2),
        ("ratio", np.float64, 2),
        ("flip", np.int64),  # a code in FLIPS
        ("flip_probability", np.float64),
        ("warp", np.bool_),  # the geometry is not axis-aligned
        # `clip` is the crop, rounded to stored pixels, because what is outside is black: to the
        # nearest ones if there is a warp, else outward.
        ("cut", np.bool_),
        ("rotation", np.float64),
        ("perspective", np.float64),
        ("perspective_probability", np.float64),
        ("translate", np.float64, 2),
        ("zoom", np.float64, 2),
        ("shear", np.float64),
        ("brightness", np.float64),  # this and the next three: of the color jitter
        ("contrast", np.float64),
        ("saturation", np.float64),
        ("hue", np.float64),
        ("grayscale", np.float64),
        ("erase", np.float64),
        ("means", np.float64, 3),  # of R, G, B, in 0..1
        ("deviations", np.float64, 3),
    ],
    align=True,
)


@kernel
def draw(indices, heights, widths, key, epoch, numbers, geometry, color, clip, erase):
    """Draw the Plan of a batch.

    Args:
        indices: int64 [N], the samples.
        heights, widths: int32 [N], sizes of the stored images in pixels.
        key: uint64, the seed.
        epoch: uint64.
        numbers: A record of NUMBERS.
        geometry: Output, float32 [N, 3, 3].
        color: Output, float32 [N, 3, 4].
        clip, erase: Output, int32 [N, 4].
    """
    size = float(numbers.image_size)
    matrix, other, product = np.empty((3, 3)), np.empty((3, 3)), np.empty((3, 3))
    jitters = numbers.brightness > 0 or numbers.contrast > 0 or numbers.saturation > 0
    jitters = jitters or numbers.hue > 0 or numbers.grayscale > 0
    same = np.empty((1, 3, 4), np.float32)  # the colors of all samples without jitter
    _color(numbers, False, 0.5, 0.5, 0.5, 0.5, same, 0)
    low, high = np.log(numbers.ratio[0]), np.log(numbers.ratio[1])
    # The numbers that each sample needs are drawn for many samples at once. No parts of arrays in
    # the loop: numba would count the references to them, which takes as long as drawing a number.
    samples = np.zeros(AT_ONCE, np.uint64)
    first, u, v, parity = (
        np.empty((4, AT_ONCE)),
        np.empty((4, AT_ONCE)),
        np.empty((4, AT_ONCE)),
        np.empty((4, AT_ONCE)),
    )
    for i in range(len(indices)):
        at = i % AT_ONCE
        if at == 0:
            for k in range(min(AT_ONCE, len(indices) - i)):
                samples[k] = indices[i + k]
            if numbers.crop == _RANDOM or numbers.crop == _RANDOM_RESIZED:
                uniforms_of_many(key, epoch, samples, np.uint64(0), first)
            uniforms_of_many(key, epoch, samples, np.uint64(10), u)
            if jitters:
                uniforms_of_many(key, epoch, samples, np.uint64(11), v)
            if numbers.flip == _ALTERNATING:
                uniforms_of_many(key, np.uint64(0), samples, np.uint64(30), parity)
        sample, height, width = samples[at], heights[i], widths[i]
        if numbers.crop == _SQUEEZE:
            x, y, w, h = 0.0, 0.0, float(width), float(height)
        elif numbers.crop == _RANDOM_RESIZED:
            x, y, w, h = _random_resized_box(
                numbers, low, high, height, width, key, epoch, sample, first, at
            )
        else:
            x, y, w, h = _box(numbers, height, width, first[2, at], first[3, at])
        if numbers.flip == _ALTERNATING:
            odd = (epoch & np.uint64(1)) == np.uint64(1)
            mirror, upend = odd != (parity[0, at] < 0.5), False
        else:
            mirror = numbers.flip in (1, 3) and u[0, at] < numbers.flip_probability
            upend = numbers.flip in (2, 3) and u[1, at] < numbers.flip_probability
        gray = u[2, at] < numbers.grayscale
        # Output point -> stored point: scale to the box, mirrored if it is flipped.
        scale_x, left = (-w / size, x + w) if mirror else (w / size, x)
        scale_y, top = (-h / size, y + h) if upend else (h / size, y)
        if numbers.warp:
            matrix[:] = 0.0
            matrix[0, 0], matrix[0, 2], matrix[1, 1], matrix[1, 2] = scale_x, left, scale_y, top
            matrix[2, 2] = 1.0
            inverse_affine(numbers, size, key, epoch, sample, other)
            multiply(matrix, other, product)
            if inverse_perspective(numbers, size, key, epoch, sample, other):
                multiply(product, other, matrix)
            else:
                matrix[:] = product
            geometry[i] = matrix
        else:
            geometry[i, 0, 0], geometry[i, 0, 1], geometry[i, 0, 2] = scale_x, 0.0, left
            geometry[i, 1, 0], geometry[i, 1, 1], geometry[i, 1, 2] = 0.0, scale_y, top
            geometry[i, 2, 0], geometry[i, 2, 1], geometry[i, 2, 2] = 0.0, 0.0, 1.0
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
            _color(numbers, gray, v[0, at], v[1, at], v[2, at], v[3, at], color, i)
        else:
            for row in range(3):
                for column in range(4):
                    color[i, row, column] = same[0, row, column]
        if u[3, at] < numbers.erase:
            draw_box(numbers, key, epoch, sample, erase, i)
        else:
            for side in range(4):
                erase[i, side] = 0


@kernel
def _box(numbers, height, width, u, v):
    """The crop (x, y, width, height) in stored pixels. It may be fractional after a resize."""
    size = numbers.image_size
    resized_h, resized_w = height, width
    if numbers.resize > 0:
        resized_h = numbers.resize if height <= width else int(numbers.resize * height / width)
        resized_w = numbers.resize if width <= height else int(numbers.resize * width / height)
    left = _offset(numbers.crop, resized_w, size, numbers.padding, u)
    top = _offset(numbers.crop, resized_h, size, numbers.padding, v)
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
def _random_resized_box(numbers, low, high, height, width, key, epoch, sample, first, at):
    """torchvision's RandomResizedCrop: ten attempts to draw area and shape, then the largest
    central box of an allowed shape.

    `first[:, at]` are the numbers of the first attempt; `low` and `high` are the logarithms of
    `numbers.ratio`."""
    area = float(height) * float(width)
    u = first[0, at], first[1, at], first[2, at], first[3, at]
    for attempt in range(10):
        if attempt:
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
def _factor(u, strength):
    low = max(0.0, 1.0 - strength)
    return low + u * (1.0 + strength - low)


@kernel
def _color(numbers, gray, u0, u1, u2, u3, out, i):
    """Brightness, contrast about 0.5, saturation, hue, grayscale and normalization as one affine
    map of 0..255, into `out[i]`: float32 [3, 4]."""
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
        total, scale = r0 + r1 + r2, 1.0 / numbers.deviations[c]
        out[i, c, 0] = gain * scale * (saturation * r0 + (1 - saturation) * total * GRAY[0])
        out[i, c, 1] = gain * scale * (saturation * r1 + (1 - saturation) * total * GRAY[1])
        out[i, c, 2] = gain * scale * (saturation * r2 + (1 - saturation) * total * GRAY[2])
        luma = GRAY[0] + GRAY[1] + GRAY[2]
        out[i, c, 3] = (
            shift * total * (saturation + (1 - saturation) * luma) - numbers.means[c]
        ) * scale
