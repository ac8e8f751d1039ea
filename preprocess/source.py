"""What a dataset file gives: per split, samples that can be read one by one, in a fixed order.

In: nothing. Out: `SampleSource`, which `build_dataset` turns into a dataset folder, and the three
kinds of samples there are: files on disk (`Files`), arrays in memory (`Arrays`), images made on the
fly (`Generated`). Nothing is read here before it is asked for, and nothing is kept: memory does not
grow with the size of the images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from slipform.pipelines.decoding.image_file import read_bytes
from slipform.preprocess.listing import Listing

Labels = npt.NDArray[np.int64]
Pixels = npt.NDArray[np.uint8]  # [H, W] gray or [H, W, 3] RGB


class Samples(Protocol):
    """One split. labels: int64 [N], in the order in which the samples are stored."""

    @property
    def labels(self) -> Labels: ...

    def name(self, index: int) -> str:
        """What a person would look for: a path below the source, or a batch and a number."""

    def read(self, index: int) -> bytes | Pixels:
        """The sample as it is: the bytes of an image file, or pixels. May be called from several
        threads at once."""


@dataclass(frozen=True)
class Files:
    """Image files: `paths` below `root`."""

    root: Path
    paths: Sequence[str]
    labels: Labels

    def name(self, index: int) -> str:
        return self.paths[index]

    def read(self, index: int) -> bytes:
        return read_bytes(f"{self.root}/{self.paths[index]}")

    def subset(self, indices: npt.NDArray[np.int64]) -> Files:
        """These files only."""
        return Files(self.root, [self.paths[i] for i in indices], self.labels[indices])


@dataclass(frozen=True)
class Arrays:
    """Images of one size in memory: uint8 [N, H, W] gray, [N, 3, H, W] planes or [N, H, W, 3].
    `origin` names them."""

    images: Pixels
    labels: Labels
    origin: str
    indices: npt.NDArray[np.int64] | None = (
        None  # which of `images` these are; None: all, in their order
    )

    def name(self, index: int) -> str:
        return f"{self.origin}:{index if self.indices is None else self.indices[index]}"

    def read(self, index: int) -> Pixels:
        return self.block(index, index + 1)[0]

    def block(self, start: int, stop: int) -> Pixels:
        """Samples start..stop-1 as one contiguous uint8 [n, H, W, 3] array."""
        images = (
            self.images[start:stop]
            if self.indices is None
            else self.images[self.indices[start:stop]]
        )
        if images.ndim == 3:
            return np.repeat(images[..., None], 3, axis=3)
        if images.shape[3] == 3:
            return np.ascontiguousarray(images)
        pixels = np.empty((len(images), *images.shape[2:], 3), np.uint8)
        for channel in range(3):  # plane by plane: 2.6 times as fast as a transposed copy of CIFAR
            pixels[..., channel] = images[:, channel]
        return pixels

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        height, width = (
            self.images.shape[1:3]
            if self.images.ndim == 3 or self.images.shape[3] == 3
            else self.images.shape[2:]
        )
        return width, height

    def subset(self, indices: npt.NDArray[np.int64]) -> Arrays:
        """These samples only. The pixels are shared, not copied."""
        chosen = indices if self.indices is None else self.indices[indices]
        return Arrays(self.images, self.labels[indices], self.origin, chosen)


@dataclass(frozen=True)
class Generated:
    """Images made by `make(index)`, the same one for the same index."""

    make: Callable[[int], bytes | Pixels]
    labels: Labels
    origin: str

    def name(self, index: int) -> str:
        return f"{self.origin}:{index}"

    def read(self, index: int) -> bytes | Pixels:
        return self.make(index)


@dataclass(frozen=True)
class SampleSource:
    """A dataset before it is written.

    Attributes:
        dataset: Its name.
        classes: Names of the labels 0..C-1.
        splits: Samples by split, in the order in which they are written.
        split_rule: How the samples were divided, in words.
        options: What was asked for, noted in the manifest.
        listing: What was found below the source folder.
    """

    dataset: str
    classes: Sequence[str]
    splits: Mapping[str, Samples]
    split_rule: str
    options: Mapping[str, Any] = field(default_factory=dict)
    listing: Listing = field(default_factory=Listing)
