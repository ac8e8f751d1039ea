"""Samples as they are stored, a chunk at a time: `Chunk`, and the samples that are not: `Rejected`.

In: nothing. Out: types only. `encode` makes them, and `writer` writes them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from slipform.preprocess.pixel_sums import PixelSums

__all__ = ["Chunk", "Rejected"]


@dataclass(frozen=True)
class Rejected:
    """A sample that cannot be stored, or that is damaged.

    Attributes:
        index: Position in the source's split.
        label: Its label.
        name: Its name, see `Samples.name`.
        reason: What is wrong with it, in words.
    """

    index: int
    label: int
    name: str
    reason: str


@dataclass
class Chunk:
    """The result of a worker. All sequences have one entry per accepted sample.

    Attributes:
        data: The bytes of the samples and of their entry points, without gaps.
        labels: int64 [N].
        names: Names of the samples, see `Samples.name`.
        sizes: Bytes of each sample.
        entries: Bytes of the entry points after each sample, see `jpeg_entries`.
        crc32: CRC-32 of each sample.
        widths, heights: Sizes of the images in pixels.
        modes: JPG or RAW.
        num_read: Number of samples, including the rejected ones.
        pixel_sums: For mean and standard deviation.
        converted: Number of converted images by reason.
        rejected: The samples that were not stored.
        damaged: The samples that were stored although their decoder warns.
    """

    data: bytes | memoryview
    labels: npt.NDArray[np.int64]
    names: list[str]
    sizes: list[int]
    entries: list[int]
    crc32: list[int]
    widths: list[int]
    heights: list[int]
    modes: list[int]
    num_read: int
    pixel_sums: PixelSums
    converted: Counter[str]
    rejected: list[Rejected]
    damaged: list[Rejected]
