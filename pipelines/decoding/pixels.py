"""Decoded images in memory: what decoders return and renderers read.

In: addresses and sizes. Out: `Pixels`. Nothing is copied.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Pixels"]


@dataclass(frozen=True)
class Pixels:
    """The pixels of N images. Each is the whole stored image, or a rectangle of it.

    Attributes:
        addresses: int64 [N], addresses of contiguous uint8 [H, W, 3] RGB pixels.
        heights: int32 [N], in pixels.
        widths: int32 [N], in pixels.
        origin: int32 [N, 2], the point (x, y) of the stored image where the rectangle begins, in
            pixels of the stored image. None: all images are whole.
        scales: int32 [N]. 2, 4 or 8: the rectangle is at 1/2, 1/4 or 1/8 of its size. 1: full
            size. None: all 1.
        bad: Positions of the images that could not be read. They are black.
        owner: An object that keeps the memory alive.
    """

    addresses: npt.NDArray[np.int64]
    heights: npt.NDArray[np.int32]
    widths: npt.NDArray[np.int32]
    origin: npt.NDArray[np.int32] | None = None
    scales: npt.NDArray[np.int32] | None = None
    bad: tuple[int, ...] = ()
    owner: Any = None
