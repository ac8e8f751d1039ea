"""What every contestant has to do: the same images, the same augmentation, the same output.

In: a dataset folder. Out: `Work`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from slipform.pipelines.errors import DatasetError
from slipform.pipelines.manifest import read_manifest
from slipform.pipelines.plan.augmentation import Augmentation

if TYPE_CHECKING:
    from torch import Tensor

SMALL = 64  # px: a raw set of images up to this size is trained on as CIFAR is


@dataclass(frozen=True)
class Work:
    """What a loader is measured at.

    Args:
        folder: The dataset folder.
        split: Its split. All of its samples are stored as `stored`.
        stored: "jpeg" or "raw".
        files: The same JPEGs as single files in class folders; "" for raw pixels, which every
            contestant reads from the beton's memory map.
        augment: What is done to an image.
        batch_size: Images in each batch.
        cores: How many cores a process may use.
        device: "cpu", "cuda" or "cuda:N": where the batches have to be.
        dtype: The images' type: "float32", "float16" or "bfloat16".
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
        """The path of the beton."""
        return f"{self.folder}/{self.split}.beton"

    @property
    def mean_std(self) -> tuple[list[float], list[float]]:
        """Mean and deviation of each channel, in 0..1."""
        numbers = self.augment.resolved([0.5] * 3, [0.25] * 3).normalize
        assert not isinstance(numbers, str)
        return list(numbers[0]), list(numbers[1])

    def check(self, batch: tuple[Tensor, Tensor]) -> None:
        """Check that a batch is what every contestant has to give.

        Args:
            batch: Images [batch_size, 3, image_size, image_size] of `dtype` on `device`,
                normalized; labels [batch_size].

        Raises:
            ValueError: Shape, type, device or range is another.
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
                f"gave values up to {peak:.3g} with standard deviation {spread:.3g}: these are no"
                " normalized images"
            )


def stored_as(folder: Path) -> str:
    """How the train split of a dataset folder is stored.

    Args:
        folder: The dataset folder.

    Returns:
        "jpeg" or "raw".

    Raises:
        DatasetError: It mixes both, which would compare different work.
    """
    modes = {mode for mode, count in read_manifest(folder).split("train").modes.items() if count}
    if len(modes) != 1:
        raise DatasetError(
            f"{folder} stores its train images as {sorted(modes)}: bench needs all JPEG or all raw"
        )
    return {"jpg": "jpeg", "raw": "raw"}[modes.pop()]


def is_small(folder: Path) -> bool:
    """Raw images of one size up to SMALL px, such as CIFAR's."""
    info = read_manifest(folder).split("train")
    same = info.min_height == info.max_height == info.min_width == info.max_width
    return stored_as(folder) == "raw" and same and info.max_height <= SMALL


def usual_work(folder: Path, *, batch_size: int, cores: int, device: str, dtype: str) -> Work:
    """How the images of a dataset folder are usually trained on.

    Random-resized crop to 224 px and flip; small images in their own size, padded by 4, cropped at
    random and flipped.

    Args:
        folder: The dataset folder.
        batch_size: 0: 128, for small images 512.
        cores: How many cores a process may use.
        device: "cpu", "cuda" or "cuda:N".
        dtype: "float32", "float16" or "bfloat16".

    Returns:
        The work; its `files` is empty.

    Raises:
        DatasetError: It is no dataset folder, or mixes JPEG and raw images.
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
        batch_size=batch_size or (512 if small else 128),
        cores=cores,
        device=device,
        dtype=dtype,
    )
