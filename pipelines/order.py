"""The order of the samples: `EpochOrder`, a pure function of (seed, epoch).

In: the number of samples, a seed, the batch size, the rank and world_size. Out: the indices
of the next batch of this process, for any position. A position is an epoch and the number of
samples of it that were seen in the global order.

The global order does not depend on the number of processes. Each step takes the next global batch
of it, and process r takes the r-th part of that (`part_of`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial

import numpy as np
import numpy.typing as npt

from slipform.pipelines.errors import ConfigError
from slipform.pipelines.plan.philox import permutation
from slipform.pipelines.sampling import Draws

__all__ = ["EpochOrder", "part_of"]

Indices = npt.NDArray[np.int64]


def part_of(total: int, rank: int, world_size: int) -> tuple[int, int]:
    """The part of a global batch that a process takes. The sizes of parts differ by 1 at most.

    Args:
        total: Samples of the global batch.
        rank: Number of the process, 0..world_size - 1.
        world_size: Number of processes.

    Returns:
        (samples before the part, samples of the part).
    """
    first = rank * total // world_size
    return first, (rank + 1) * total // world_size - first


@dataclass(frozen=True)
class EpochOrder:
    """The order of the samples of a split.

    Attributes:
        num_samples: Samples of the split.
        batch_size: Samples per batch and process, 1 or more; see split_batches.
        seed: Seed of the permutations.
        shuffle: True: a new permutation each epoch. False: 0, 1, 2, ...
        drop_last: True: the last partial batch of an epoch is dropped. False: it is padded with -1.
        rank: Number of this process, 0..world_size - 1.
        world_size: Number of processes.
        block: 0: all samples are shuffled together. Otherwise blocks of this many consecutive
            samples are shuffled, then the samples within `window` blocks. Reads stay near each
            other, which helps where the data is larger than memory.
        window: Number of blocks whose samples are shuffled together.
        draws: Draws the samples of each epoch, as many as the split has. None: an epoch has each
            sample once.
        split_batches: True: batch_size is that of all processes together, and each takes a part.

    Raises:
        ConfigError: A value is not allowed, the global batch is larger than the split, or smaller
            than the number of processes.
    """

    num_samples: int
    batch_size: int
    seed: int = 0
    shuffle: bool = True
    drop_last: bool = True
    rank: int = 0
    world_size: int = 1
    block: int = 0
    window: int = 16
    draws: Draws | None = None
    split_batches: bool = False

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigError(f"batch_size = {self.batch_size}: give 1 or more")
        if not 0 <= self.rank < self.world_size:
            raise ConfigError(
                f"rank {self.rank} of {self.world_size} processes: ranks go from 0 to"
                f" {self.world_size - 1}"
            )
        if self.global_batch_size < self.world_size:
            raise ConfigError(
                f"train.batch_size = {self.batch_size} cannot be divided among {self.world_size}"
                f" processes: give {self.world_size} or more, or start fewer processes"
            )
        if self.draws is not None and (self.block or not self.shuffle):
            raise ConfigError(
                "sampling draws single samples in a random order: use it for training, and with"
                " block = 0"
            )
        if self.drop_last and 0 < self.num_samples < self.global_batch_size:
            most = self.num_samples // (1 if self.split_batches else self.world_size)
            raise ConfigError(
                f"the global batch of {self.global_batch_size} samples is larger than the split"
                f" ({self.num_samples}), so that no full batch exists. Set train.batch_size to"
                f" {max(1, most)} or less."
            )

    @cached_property
    def global_batch_size(self) -> int:
        """Samples per batch over all processes."""
        return self.batch_size * (1 if self.split_batches else self.world_size)

    @cached_property
    def size(self) -> int:
        """Samples per batch on this process."""
        return self._part[1]

    @cached_property
    def first(self) -> int:
        """Samples of a global batch before those of this process."""
        return self._part[0]

    @cached_property
    def _part(self) -> tuple[int, int]:
        return part_of(self.global_batch_size, self.rank, self.world_size)

    @cached_property
    def _orders(self) -> Callable[[int], Indices]:
        """`_shuffled` of an epoch. Each loader keeps its own, so that none drops those of others.

        These are the present epoch and the next one, which is prefetched. A loader that reads from
        an object store also looks at the one after it.
        """
        return lru_cache(maxsize=3)(
            partial(_shuffled, self.num_samples, self.seed, self.block, self.window)
        )

    @cached_property
    def num_batches(self) -> int:
        """Batches of an epoch on each process."""
        whole, rest = divmod(self.num_samples, self.global_batch_size)
        return whole if self.drop_last or not rest else whole + 1

    def next_position(self, epoch: int, seen: int) -> tuple[int, int]:
        """The position of the next batch.

        Args:
            epoch: The epoch, from 0.
            seen: Samples of it that were seen, over all processes.

        Returns:
            (epoch, seen), or (epoch + 1, 0) if no batch is left in this epoch.
        """
        left = self.num_samples - seen
        return (
            (epoch, seen)
            if left >= self.global_batch_size or (left > 0 and not self.drop_last)
            else (epoch + 1, 0)
        )

    def after(self, epoch: int, seen: int) -> tuple[int, int]:
        """The position after a batch.

        Args:
            epoch: The epoch of the batch.
            seen: Samples of the epoch that were seen before the batch.

        Returns:
            (epoch, seen) of the next batch.
        """
        size = self.global_batch_size
        if self.num_samples - seen >= 2 * size:  # this is called between two training steps
            return epoch, seen + size
        return self.next_position(epoch, seen + size)

    def samples(self, epoch: int) -> Indices:
        """The order of an epoch.

        Args:
            epoch: The epoch, from 0.

        Returns:
            int64 [num_samples], a permutation of the indices, or what was drawn from them. Do not
            write to it: it is cached.
        """
        if self.draws is not None:
            return self.draws.samples(self.seed, epoch)
        if not self.shuffle:
            return np.arange(self.num_samples)
        return self._orders(epoch)

    def coming(self, epoch: int, seen: int, ranks: range) -> Indices:
        """The samples of the rest of an epoch that some processes get, in the global order.

        Args:
            epoch: The epoch.
            seen: Samples of it before.
            ranks: The processes: consecutive numbers, at least one.

        Returns:
            int64 [n].
        """
        samples, total = self.samples(epoch)[seen:], self.global_batch_size
        if self.drop_last:
            samples = samples[: len(samples) - len(samples) % total]
        place = np.arange(len(samples)) % total
        low, high = (part_of(total, k, self.world_size)[0] for k in (ranks.start, ranks.stop))
        return samples[(place >= low) & (place < high)]

    def batch(self, epoch: int, seen: int) -> Indices:
        """The indices of one batch of this process.

        Args:
            epoch: The epoch of the batch.
            seen: Samples of the epoch before the global batch.

        Returns:
            int64 [size], a copy; -1 for padding.
        """
        start, size = seen + self.first, self.size
        if self.shuffle:
            part = self.samples(epoch)[start : start + size].copy()
        else:  # without the whole order, which would be made for each batch
            part = np.arange(start, min(start + size, self.num_samples))
        if len(part) == size:
            return part
        return np.concatenate([part, np.full(size - len(part), -1)])

    def batch_number(self, seen: int) -> int:
        """The number of a batch in its epoch, counted over all processes. It keys MixUp and CutMix.

        Args:
            seen: Samples of the epoch before the global batch.
        """
        return seen * self.world_size // self.global_batch_size + self.rank

    def draw_positions(self, seen: int) -> Indices:
        """The positions in the epoch of the samples of a batch of this process.

        With `draws`, a sample may be drawn several times in an epoch. Each draw has random numbers
        of its own for the augmentation, which follow from its position, not from the sample.

        Args:
            seen: Samples of the epoch before the global batch.

        Returns:
            int64 [size].
        """
        start = seen + self.first
        return np.arange(start, start + self.size)


def _shuffled(num_samples: int, seed: int, block: int, window: int, epoch: int) -> Indices:
    """The shuffled order of an epoch, int64 [num_samples]."""
    if block <= 0:
        return permutation(seed, epoch, num_samples)
    block = min(block, max(1, num_samples))  # a larger one is the same, and takes its memory
    num_blocks = -(-num_samples // block)
    blocks = permutation(seed, epoch, num_blocks)
    parts = []
    for first in range(0, num_blocks, window):
        starts = blocks[first : first + window] * block
        together = (starts[:, None] + np.arange(block)).ravel()
        together = together[together < num_samples]
        # Each window has its own key. Bit 31 separates these streams from those of the epochs.
        parts.append(together[permutation(seed ^ (first + 1), epoch | 1 << 31, len(together))])
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)
