"""The position of a Loader: its properties and methods for users.

In: a BatchSequence. Out: the properties and methods that `Loader` inherits.
"""

from __future__ import annotations

from slipform.pipelines.limits import whole
from slipform.pipelines.sequence import BatchSequence

__all__ = ["HasPosition"]


class HasPosition:
    """A base class of `Loader`.

    Attributes:
        sequence: The position and the order of the samples.
    """

    sequence: BatchSequence

    @property
    def epoch(self) -> int:
        """The epoch of the next batch, from 0."""
        return self.sequence.done.epoch

    @property
    def seen(self) -> int:
        """Samples of this epoch that were handed out, over all processes."""
        return self.sequence.done.seen

    @property
    def num_bad(self) -> int:
        """Samples that could not be read. A sample counts in each epoch."""
        return self.sequence.done.num_bad

    @property
    def remaining_batches(self) -> int:
        """Batches of this epoch on this process that were not handed out yet."""
        return self.sequence.remaining_batches

    def set_epoch(self, epoch: int) -> None:
        """Go to the beginning of an epoch. This ends the running loop.

        It is not needed between epochs: the loader counts them. The same epoch number gives the
        same batches.

        Args:
            epoch: The epoch, from 0.

        Raises:
            ConfigError: The epoch is negative or too large.
        """
        self.sequence.go_to(whole("epoch", epoch), 0)
