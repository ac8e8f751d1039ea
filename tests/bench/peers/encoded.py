"""Images whose pixels encode their position, to recover what a peer did to them.

In: the output of a peer. Out: for each image the crop box, whether it was flipped, and its color
factors; and the bound for their distributions.

Red is linear in x, green is linear in y, and blue encodes the number of the image. Cropping,
resizing and flipping keep red and green linear, so a least-squares fit recovers the box with an
error far below a pixel. Brightness, contrast and saturation are linear in the colors, up to a
constant: saturation s turns a color c into s c + (1 - s) gray(c), brightness b and contrast k
multiply by b and k. The gradient of green along y, (0, a, 0), becomes b k a ((1 - s) w, s + (1 - s)
w, (1 - s) w), where w is the weight of green in gray. This gives b k and s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from slipform.bench.work import Work

Numbers = npt.NDArray[np.float64]

NUM_IMAGES = 60
GREEN_IN_GRAY = 0.587  # ITU-R BT.601, which torchvision, ffcv and DALI use
# The probability for one comparison. It is below 1e-6 for all of them: there are fewer than 200.
FALSE_ALARM = 5e-9


@dataclass(frozen=True)
class Gradient:
    """The size of the images in pixels, and the range of red and green."""

    width: int
    height: int
    low: float = 0.0
    high: float = 255.0

    def pixels(self, number: int) -> npt.NDArray[np.uint8]:
        """uint8 [height, width, 3] of one image."""
        image = np.empty((self.height, self.width, 3))
        image[..., 0] = np.linspace(self.low, self.high, self.width)[None, :]
        image[..., 1] = np.linspace(self.low, self.high, self.height)[:, None]
        image[..., 2] = 8 + 4 * number if self.high == 255 else (self.low + self.high) / 2
        return image.round().astype(np.uint8)

    def write(self, folder: Path, kind: str) -> Path:
        """Write a folder of class folders, as `prep images` reads it. kind: "jpg" or "png"."""
        for number in range(NUM_IMAGES):
            path = folder / "train" / f"class{number % 2}" / f"{number:03d}.{kind}"
            path.parent.mkdir(parents=True, exist_ok=True)
            options = {"quality": 98, "subsampling": 0} if kind == "jpg" else {}
            Image.fromarray(self.pixels(number)).save(path, **options)
        return folder


@dataclass(frozen=True)
class Seen:
    """The crop and flip of n images.

    Each is float64 [n]: left, top, width, height of the box in stored pixels, whether it is
    flipped (0 or 1), and the number of the image.
    """

    left: Numbers
    top: Numbers
    width: Numbers
    height: Numbers
    flipped: Numbers
    number: Numbers


def colors(images: npt.NDArray[np.float32], work: Work) -> npt.NDArray[np.float32]:
    """The output of a peer in 0..255: [n, 3, S, S]."""
    mean, std = (np.array(values).reshape(1, 3, 1, 1) for values in work.mean_std)
    return 255 * (images * std.astype(np.float32) + mean.astype(np.float32))


def slopes(found: Numbers, margin: int) -> tuple[Numbers, Numbers, Numbers]:
    """Fit a plane to each channel inside a margin. Returns the slope per pixel along x and along y,
    and the value at the center; each [n, 3]."""
    inner = found[:, :, margin:-margin, margin:-margin]
    at = np.arange(inner.shape[-1]) - (inner.shape[-1] - 1) / 2
    weight = at / (at**2).sum()
    return (
        inner.mean(2, dtype=np.float64) @ weight,
        inner.mean(3, dtype=np.float64) @ weight,
        inner.mean((2, 3), dtype=np.float64),
    )


def boxes(found: Numbers, gradient: Gradient, margin: int) -> Seen:
    """Recover the boxes from colors [n, 3, S, S]."""
    size = found.shape[-1]
    along_x, along_y, center = slopes(found, margin)
    red = (gradient.high - gradient.low) / (gradient.width - 1)
    green = (gradient.high - gradient.low) / (gradient.height - 1)
    width = np.abs(along_x[:, 0]) / red * size
    height = np.abs(along_y[:, 1]) / green * size
    # Pixel i of a gradient has its center at i + 0.5.
    middle_x = (center[:, 0] - gradient.low) / red + 0.5
    middle_y = (center[:, 1] - gradient.low) / green + 0.5
    return Seen(
        left=middle_x - width / 2,
        top=middle_y - height / 2,
        width=width,
        height=height,
        flipped=(along_x[:, 0] < 0).astype(np.float64),
        number=((center[:, 2] - 8) / 4).round(),
    )


def factors(found: Numbers, gradient: Gradient, margin: int) -> tuple[Numbers, Numbers]:
    """brightness * contrast, and saturation, of images that were not cropped."""
    _, along_y, _ = slopes(found, margin)
    given = (gradient.high - gradient.low) / (gradient.height - 1)
    given *= gradient.height / found.shape[-1]
    pure = (along_y[:, 1] - along_y[:, 0]) / given  # brightness * contrast * saturation
    gray = along_y[:, 0] / (GREEN_IN_GRAY * given)  # brightness * contrast * (1 - saturation)
    return pure + gray, pure / (pure + gray)


@cache
def random_resized(
    work: Work, gradient: Gradient, count: int = 100_000
) -> tuple[Numbers, Numbers, Numbers, Numbers]:
    """left, top, width, height by the documented rule of torchvision's RandomResizedCrop: ten
    attempts to draw area and log-uniform ratio, then the largest box in the center."""
    generator = np.random.default_rng(0)
    width, height = np.zeros(count), np.zeros(count)
    area = gradient.width * gradient.height
    low, high = work.augment.ratio
    for _ in range(10):
        share = area * generator.uniform(*work.augment.scale, count)
        ratio = np.exp(generator.uniform(math.log(low), math.log(high), count))
        w, h = np.sqrt(share * ratio).round(), np.sqrt(share / ratio).round()
        fits = (width == 0) & (w <= gradient.width) & (h <= gradient.height)
        width, height = np.where(fits, w, width), np.where(fits, h, height)
    left_over = width == 0
    full = gradient.width / gradient.height
    width[left_over] = gradient.width if full <= high else round(gradient.height * high)
    height[left_over] = gradient.height if full >= low else round(gradient.width / low)
    left = np.floor(generator.random(count) * (gradient.width - width + 1))
    top = np.floor(generator.random(count) * (gradient.height - height + 1))
    left = np.where(left_over, (gradient.width - width) // 2, left)
    top = np.where(left_over, (gradient.height - height) // 2, top)
    return left, top, width, height


def bound(count: int) -> float:
    """The bound on the distance between the empirical distribution function of `count` independent
    values and the true one, with the false-alarm rate FALSE_ALARM. It is the
    Dvoretzky-Kiefer-Wolfowitz inequality with Massart's constant, P(sup |F_n - F| > e) <= 2 exp(-2
    n e^2). Hoeffding's inequality gives the same number for a share of flips."""
    return math.sqrt(math.log(2 / FALSE_ALARM) / (2 * count))


def distance(values: Numbers, reference: Numbers, tolerance: float) -> float:
    """The largest difference between two distribution functions that an error of `tolerance` in
    every value does not explain.

    `reference` is a sample of the true distribution that is far larger than `values`; its own
    distance (0.010 for 100,000 values, by the same inequality) is taken off.
    """
    values, reference = np.sort(values), np.sort(reference)
    above = np.arange(1, len(values) + 1) / len(values)
    below = above - 1 / len(values)
    true_high = np.searchsorted(reference, values + tolerance, side="right") / len(reference)
    true_low = np.searchsorted(reference, values - tolerance, side="left") / len(reference)
    gap = max(float((above - true_high).max()), float((true_low - below).max()))
    return gap - bound(len(reference))


def differences(seen: Seen, work: Work, gradient: Gradient) -> list[str]:
    """The quantities that are not distributed as those of torchvision's RandomResizedCrop and a
    flip with the work's probability; empty if all of them are."""
    left, top, width, height = random_resized(work, gradient)

    def quantities(
        left: Numbers, top: Numbers, width: Numbers, height: Numbers
    ) -> dict[str, tuple[Numbers, float]]:
        x, y = (left + width / 2) / gradient.width, (top + height / 2) / gradient.height
        # The tolerances: half a pixel for different rounding, and the error of JPEG.
        return {
            "area": (width * height / (gradient.width * gradient.height), 0.02),
            "ratio": (np.log(width / height), 0.03),
            "center x": (x, 0.012),
            "center y": (y, 0.012),
            "center x + y": (x + y, 0.02),
        }

    found = quantities(seen.left, seen.top, seen.width, seen.height)
    reference = quantities(left, top, width, height)
    limit = bound(len(seen.left))
    result = []
    for name, (values, tolerance) in found.items():
        gap = distance(values, reference[name][0], tolerance)
        if gap > limit:
            result.append(f"{name}: {gap:.3f} away, {limit:.3f} allowed")
    return result + flips(seen, work) + repetition(seen)


def flips(seen: Seen, work: Work) -> list[str]:
    """Whether the share of flipped images is the work's probability."""
    wanted = work.augment.flip_probability if work.augment.flip == "horizontal" else 0.0
    share, limit = float(seen.flipped.mean()), bound(len(seen.flipped))
    if abs(share - wanted) > limit:
        return [f"flipped: {share:.3f}, {wanted} +- {limit:.3f} allowed"]
    return []


def repetition(seen: Seen) -> list[str]:
    """The images that always get the same box. Each image occurs 15 times or more. With 81 possible
    boxes, all 15 boxes of one of 60 images agree with a probability below 60 * 81 ** -14."""
    result = []
    for number in np.unique(seen.number):
        own = seen.number == number
        if own.sum() >= 15 and np.ptp(seen.left[own]) < 0.3 and np.ptp(seen.top[own]) < 0.3:
            result.append(f"image {number:.0f} always gets the same box")
    return result
