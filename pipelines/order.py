"""Which samples come when: `EpochOrder`, a pure function of (seed, epoch).

In: number of samples, seed, batch size per process, rank, world_size. Out: for any position (epoch,
samples seen so far in the global order) the indices of this process' next batch. The global order
knows no processes: step k of an epoch takes the next batch_size * world_size samples, process r the
r-th part of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from slipform.pipelines.errors import ConfigError
from slipform.pipelines.plan.philox import permutation

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class EpochOrder:
    """The order of samples.

    shuffle: a new permutation each epoch; else 0, 1, 2, ... drop_last: training drops the last
    partial batch; evaluation pads it with -1. block: 0 shuffles everything; with data larger than
    memory give the samples that lie together on disk (a block) and blocks are shuffled, then
    samples within `window` blocks, so that reads stay near each other.
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

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigError(f"batch_size = {self.batch_size}: give 1 or more")
        if not 0 <= self.rank < self.world_size:
            raise ConfigError(
                f"rank {self.rank} of {self.world_size} processes: ranks go from 0 to"
                f" {self.world_size - 1}"
            )
        if self.drop_last and 0 < self.num_samples < self.global_batch_size:
            raise ConfigError(
                f"the global batch of {self.global_batch_size} samples is larger than the split"
                f" ({self.num_samples}), so that no full batch exists. Set train.batch_size to"
                f" {max(1, self.num_samples // self.world_size)} or less."
            )

    @property
    def global_batch_size(self) -> int:
        return self.batch_size * self.world_size

    @property
    def num_batches(self) -> int:
        """Batches of an epoch, the same on every process."""
        whole, rest = divmod(self.num_samples, self.global_batch_size)
        return whole if self.drop_last or not rest else whole + 1

    def next_position(self, epoch: int, seen: int) -> tuple[int, int]:
        """The position of the next batch: (epoch, seen), or the next epoch's beginning where no
        batch is left in this one."""
        left = self.num_samples - seen
        return (
            (epoch, seen)
            if left >= self.global_batch_size or (left > 0 and not self.drop_last)
            else (epoch + 1, 0)
        )

    def after(self, epoch: int, seen: int) -> tuple[int, int]:
        """The position after the batch at (epoch, seen)."""
        return self.next_position(epoch, seen + self.global_batch_size)

    def samples(self, epoch: int) -> Indices:
        """int64 [num_samples]: the whole order of this epoch."""
        if not self.shuffle:
            return np.arange(self.num_samples)
        return _shuffled(self.num_samples, self.seed, epoch, self.block, self.window)

    def batch(self, epoch: int, seen: int) -> Indices:
        """int64 [batch_size]: this process' part of the global batch that begins after `seen`
        samples; -1 where there is none."""
        start = seen + self.rank * self.batch_size
        part = self.samples(epoch)[start : start + self.batch_size]
        if len(part) == self.batch_size:
            return part.copy()  # the order itself is shared by all that ask for it
        return np.concatenate([part, np.full(self.batch_size - len(part), -1)])


@lru_cache(maxsize=4)  # this epoch and the next, which is prefetched, for two loaders
def _shuffled(num_samples: int, seed: int, epoch: int, block: int, window: int) -> Indices:
    if block <= 0:
        return permutation(seed, epoch, num_samples)
    num_blocks = -(-num_samples // block)
    blocks = permutation(seed, epoch, num_blocks)
    parts = []
    for first in range(0, num_blocks, window):
        starts = blocks[first : first + window] * block
        together = (starts[:, None] + np.arange(block)).ravel()
        together = together[together < num_samples]
        # epoch's high bits tell the windows apart: epochs stay below 2**20, windows below 2**12 a
        # stream
        parts.append(together[permutation(seed ^ (first + 1), epoch | 1 << 31, len(together))])
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)
