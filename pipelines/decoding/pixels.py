"""Decoded images in memory: what decoders return and renderers read.

In: addresses and sizes. Out: `Pixels`. Nothing is copied. `blacken` makes damaged raw images black.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from slipform.pipelines.beton import Beton
from slipform.pipelines.beton_format import RAW

__all__ = ["Pixels", "blacken"]


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


def blacken(
    addresses: npt.NDArray[np.int64],
    beton: Beton,
    indices: npt.NDArray[np.int64],
    damaged: Sequence[int],
) -> npt.NDArray[np.uint8]:
    """Let damaged raw images be black. Damaged JPEGs are not decoded, and so need no memory here.

    Args:
        addresses: int64 [N], of the images of samples; those of damaged raw ones are changed.
        beton: The stored images.
        indices: int64 [N], the samples.
        damaged: Positions in `indices`.

    Returns:
        The black memory, which must be kept as long as the addresses are used.
    """
    at = [k for k in damaged if beton.modes[indices[k]] == RAW]
    black = np.zeros(max((int(beton.sizes[indices[k]]) for k in at), default=0), np.uint8)
    addresses[at] = black.ctypes.data
    return black
