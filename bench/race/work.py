"""What every contestant of a race has to do: the same images, the same augmentation, the same
output. And what a contestant is.

In: a dataset folder. Out: `Work`, and the protocol `Peer` that every module in bench/peers follows.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from slipform.bench.result.result import Settings, Value
from slipform.pipelines.errors import ConfigError, DatasetError
from slipform.pipelines.manifest import read_manifest
from slipform.pipelines.plan.augmentation import Augmentation

if TYPE_CHECKING:
    from torch import Tensor


SMALL = 64  # px: a raw set of images up to this size is trained on as CIFAR is


@dataclass(frozen=True)
class Work:
    """One race.

    folder: the dataset folder; all samples of `split` are stored as `stored`, "jpeg" or "raw".
    files: the same JPEGs as single files in class folders ("" for raw pixels, which every
    contestant takes from the beton's memory map). Output: images [batch_size, 3, image_size,
    image_size] of `dtype` on `device`, normalized, and labels int64 [batch_size]. cores: how many
    this process may use.
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
        return f"{self.folder}/{self.split}.beton"

    @property
    def mean_std(self) -> tuple[list[float], list[float]]:
        """Per channel, in 0..1."""
        numbers = self.augment.resolved([0.5] * 3, [0.25] * 3).normalize
        assert not isinstance(numbers, str)
        return list(numbers[0]), list(numbers[1])


def stored_as(folder: Path) -> str:
    """ "jpeg" or "raw": how the train split is stored. One that mixes both is no fair race and
    raises DatasetError."""
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
    """How such images are usually trained on: random-resized crop to 224 px and flip; small ones in
    their own size, padded by 4, cropped at random and flipped. batch_size 0: 128, small images 512.
    `files` is left empty.
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


class Peer(Protocol):
    """A module that feeds batches its own way."""

    def reason_not(self, work: Work) -> str:
        """Why it cannot do this work, in a few words; "" where it can. Imports what `batches`
        needs: the time to the first batch does not count imports. An ImportError that leaves it
        means: not installed.
        """

    def candidates(self, work: Work) -> list[Settings]:
        """Settings worth trying, the usual ones first."""

    def batches(
        self, work: Work, settings: Settings
    ) -> AbstractContextManager[Iterator[tuple[Tensor, Tensor]]]:
        """Endless (images, labels), epoch after epoch; closed on leaving."""


def grid(**choices: Iterable[Value]) -> list[Settings]:
    """All combinations: grid(threads=[1, 2], queue=[2]) -> [{"threads": 1, "queue": 2}, {"threads":
    2, "queue": 2}]."""
    names = list(choices)
    return [
        dict(zip(names, values, strict=True)) for values in itertools.product(*choices.values())
    ]


def endless(
    epoch: Callable[[], Iterable[tuple[Tensor, Tensor]]],
) -> Iterator[tuple[Tensor, Tensor]]:
    """epoch() again and again. Raises ConfigError for an epoch without a batch, which would go
    round for ever."""
    while True:
        empty = True
        for batch in epoch():
            empty = False
            yield batch
        if empty:
            raise ConfigError(
                "the split holds fewer images than one batch: give a smaller --batch-size"
            )
