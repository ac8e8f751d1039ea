"""`Work`: the task of every contestant, with the same images, augmentation and output.

In: a dataset folder. Out: a `Work`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from slipform.pipelines.beton import Beton
from slipform.pipelines.dataset import open_split
from slipform.pipelines.errors import DatasetError
from slipform.pipelines.manifest import read_manifest
from slipform.pipelines.plan.augmentation import Augmentation

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Work", "has_photos", "is_small", "stored_as", "usual_work"]

_PHOTO = 1_000_000  # stored pixels of an image
_SMALL = 64  # px: raw images up to this size get the augmentation of CIFAR


@dataclass(frozen=True)
class Work:
    """The task that a loader is measured with.

    Attributes:
        folder: The dataset folder.
        split: The split. All its samples are stored as `stored`.
        stored: "jpeg" or "raw".
        files: The folder of the same JPEGs as files in class folders; "" for raw pixels, which all
            contestants read from the memory-mapped beton.
        augment: The augmentation.
        batch_size: Images in a batch.
        cores: The number of cores that a process may use.
        device: The device of the batches: "cpu", "cuda" or "cuda:N".
        dtype: The dtype of the images: "float32", "float16" or "bfloat16".
    """

    folder: str
    split: str
    stored: str
    files: str
    augment: Augmentation
    batch_size: int
    cores: int
    device: str = "cpu"
    dtype: str = "float32"

    @property
    def beton(self) -> str:
        """The path of the beton, for a peer that opens one file.

        Raises:
            DatasetError: The split has several files.
        """
        files = read_manifest(Path(self.folder)).split(self.split).files
        if len(files) > 1:
            raise DatasetError(
                f"{self.folder} has {len(files)} shards of {self.split}, and this peer reads one"
                " beton. Give a dataset that prep wrote without --shard."
            )
        return f"{self.folder}/{files[0].file}"

    def open(self) -> Beton:
        """Open the stored images."""
        return open_split(Path(self.folder), read_manifest(Path(self.folder)), self.split)

    @property
    def mean_std(self) -> tuple[list[float], list[float]]:
        """The mean and the standard deviation of each channel, for values in 0..1."""
        numbers = self.augment.resolved([0.5] * 3, [0.25] * 3).normalize
        assert not isinstance(numbers, str)
        return list(numbers[0]), list(numbers[1])

    def check(self, batch: tuple[Tensor, Tensor]) -> None:
        """Check a batch of a contestant.

        Args:
            batch: Normalized images [batch_size, 3, image_size, image_size] of `dtype` on `device`,
                and labels [batch_size].

        Raises:
            ValueError: The shape, dtype, device or range of values is wrong.
        """
        images, labels = batch
        size = self.augment.image_size
        wanted = (self.batch_size, 3, size, size)
        if tuple(images.shape) != wanted or tuple(labels.shape) != wanted[:1]:
            raise ValueError(
                f"gave images {tuple(images.shape)} and labels {tuple(labels.shape)} instead of"
                f" {wanted}"
            )
        on_device = images.device.type == self.device.split(":")[0]
        if str(images.dtype) != f"torch.{self.dtype}" or not on_device:
            raise ValueError(
                f"gave {images.dtype} on {images.device} instead of {self.dtype} on {self.device}"
            )
        peak, spread = float(images.abs().max()), float(images.float().std())
        if not (0.05 < spread < 5 and peak < 20):
            raise ValueError(
                f"gave values up to {peak:.3g} with standard deviation {spread:.3g}: the images are"
                " not normalized"
            )


def stored_as(folder: Path) -> str:
    """How the train split of a dataset folder is stored: "jpeg" or "raw".

    Args:
        folder: The dataset folder.

    Raises:
        DatasetError: The split has both, so contestants would do different work.
    """
    modes = {mode for mode, count in read_manifest(folder).split("train").modes.items() if count}
    if len(modes) != 1:
        raise DatasetError(
            f"{folder} stores its train images as {sorted(modes)}: bench needs all JPEG or all raw"
        )
    return {"jpg": "jpeg", "raw": "raw"}[modes.pop()]


def is_small(folder: Path) -> bool:
    """Whether a dataset has raw images of one size up to 64 px, like CIFAR.

    Args:
        folder: The dataset folder.
    """
    info = read_manifest(folder).split("train")
    same = info.min_height == info.max_height == info.min_width == info.max_width
    return stored_as(folder) == "raw" and same and info.max_height <= _SMALL


def has_photos(folder: Path) -> bool:
    """Whether half of the images of a dataset are JPEGs of a megapixel or more.

    Args:
        folder: The dataset folder.
    """
    if stored_as(folder) != "jpeg":
        return False
    beton = open_split(folder, read_manifest(folder), "train")
    return bool(np.median(beton.heights.astype(np.int64) * beton.widths) >= _PHOTO)


def usual_work(folder: Path, *, batch_size: int, cores: int, device: str, dtype: str) -> Work:
    """The usual work with a dataset folder.

    Images get a random resized crop to 224 px and a random flip. Small images (see `is_small`) keep
    their size and get a padding of 4, a random crop and a random flip.

    Args:
        folder: The dataset folder.
        batch_size: Images in a batch; 0: 128, 512 for small images, 64 for photos (`has_photos`).
        cores: The number of cores that a process may use.
        device: "cpu", "cuda" or "cuda:N".
        dtype: "float32", "float16" or "bfloat16".

    Returns:
        The work, without `files`.

    Raises:
        DatasetError: It is no dataset folder, or it has both JPEG and raw images.
    """
    small = is_small(folder)
    augment = Augmentation(
        image_size=224, crop="random_resized", flip="horizontal", normalize="imagenet"
    )
    if small:
        size = read_manifest(folder).split("train").max_height
        augment = Augmentation(
            image_size=size,
            resize=0,
            crop="random",
            padding=4,
            flip="horizontal",
            normalize="imagenet",
        )
    return Work(
        folder=str(folder),
        split="train",
        stored=stored_as(folder),
        files="",
        augment=augment,
        batch_size=batch_size or (512 if small else 64 if has_photos(folder) else 128),
        cores=cores,
        device=device,
        dtype=dtype,
    )
