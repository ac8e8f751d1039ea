"""What every contestant of a race has to do: the same images, the same augmentation, the same output. And what a contestant is.

In: a dataset folder. Out: `Work`, and the protocol `Peer` that every module in bench/peers follows.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from bench.result import Settings, Value
from pipelines.augment import Augmentation
from pipelines.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Work:
    """One race.

    folder: the dataset folder; all samples of `split` are stored as `stored`, "jpeg" or "raw". files: the same JPEGs as single
    files in class folders ("" for raw pixels, which every contestant takes from the beton's memory map).
    Output: images [batch_size, 3, image_size, image_size] of `dtype` on `device`, normalised, and labels int64 [batch_size].
    cores: how many this process may use.
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


class Peer(Protocol):
    """A module that feeds batches its own way."""

    def reason_not(self, work: Work) -> str:
        """Why it cannot do this work, in a few words; "" where it can. An ImportError that leaves it means: not installed."""

    def candidates(self, work: Work) -> list[Settings]:
        """Settings worth trying, the usual ones first."""

    def batches(self, work: Work, settings: Settings) -> AbstractContextManager[Iterator[tuple[Tensor, Tensor]]]:
        """Endless (images, labels), epoch after epoch; closed on leaving."""


def grid(**choices: Iterable[Value]) -> list[Settings]:
    """All combinations: grid(threads=[1, 2], queue=[2]) -> [{"threads": 1, "queue": 2}, {"threads": 2, "queue": 2}]."""
    names = list(choices)
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*choices.values())]


def endless(epoch: Callable[[], Iterable[tuple[Tensor, Tensor]]]) -> Iterator[tuple[Tensor, Tensor]]:
    """epoch() again and again. Raises ConfigError for an epoch without a batch, which would go round for ever."""
    while True:
        empty = True
        for batch in epoch():
            empty = False
            yield batch
        if empty:
            raise ConfigError("the split holds fewer images than one batch: give a smaller --batch-size")
