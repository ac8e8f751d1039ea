"""The positions of the steps of a run: `Start`, `Segment` from a start on, `Place` of a step.

In: a start with its settings. Out: for a step, the position of its batches in the epoch.
"""

from __future__ import annotations

from dataclasses import dataclass

from slipform.train.config.run_config import RunConfig
from slipform.train.step.data import global_batch_size

__all__ = ["Place", "Segment", "Start"]


@dataclass(frozen=True)
class Start:
    """The state in which a run began, or was resumed.

    Attributes:
        step: Steps done before.
        epoch: The epoch of the next batch, from 0.
        seen: Samples of that epoch that were seen before, over all processes.
        world_size: The number of processes.
        executor: The executor of the training split.
        device: The type of the device: "cpu" or "cuda".
        num_samples: Samples of the training split or fold.
        images: The identity of the stored images and labels; see `identity.images_in`. "" if
            unknown.
        config: All settings, as TOML.
    """

    step: int
    epoch: int
    seen: int
    world_size: int
    executor: str
    device: str
    num_samples: int
    images: str
    config: str


@dataclass(frozen=True)
class Segment:
    """The steps between a start of a run and the next start.

    Attributes:
        start: The start.
        config: Its settings, parsed; data.folder is the dataset.
        end: The last step before the next start, counted from 1; of the newest segment the last one
            that the run has recorded.
    """

    start: Start
    config: RunConfig
    end: int

    @property
    def num_samples(self) -> int:
        """Samples of the training split or fold."""
        return self.start.num_samples

    @property
    def global_batch_size(self) -> int:
        """Samples of a batch over all processes."""
        return global_batch_size(self.config, self.start.world_size)

    def batches_left(self, epoch: int) -> int:
        """Batches of an epoch from the start on.

        Args:
            epoch: The epoch, from 0.
        """
        if epoch < self.start.epoch:
            return 0
        seen = self.start.seen if epoch == self.start.epoch else 0
        return (self.num_samples - seen) // self.global_batch_size

    def steps_of(self, epoch: int) -> int:
        """Steps of an epoch from the start on.

        Args:
            epoch: The epoch, from 0.
        """
        return -(-self.batches_left(epoch) // self.config.train.accumulate)

    def steps_before(self, epoch: int) -> int:
        """Steps of the run before an epoch, which does not begin before the start.

        Args:
            epoch: The epoch, from 0.
        """
        between = max(0, epoch - self.start.epoch - 1)
        first = self.steps_of(self.start.epoch) if epoch > self.start.epoch else 0
        return self.start.step + first + between * self.steps_of(self.start.epoch + 1)

    def place(self, epoch: int, number: int) -> Place:
        """The place of a step of an epoch.

        Args:
            epoch: The epoch, from 0.
            number: The step in this epoch, from 0 at the start or at the beginning of the epoch.
        """
        accumulate = self.config.train.accumulate
        first = number * accumulate
        seen = self.start.seen if epoch == self.start.epoch else 0
        return Place(
            self,
            self.steps_before(epoch) + number + 1,
            epoch,
            seen + first * self.global_batch_size,
            min(accumulate, self.batches_left(epoch) - first),
        )

    def place_of(self, step: int) -> Place:
        """The place of a step after the start, as if no other start followed.

        Args:
            step: The step, counted from 1 over the whole run.
        """
        epoch, number = self.start.epoch, step - self.start.step - 1
        if number >= self.steps_of(epoch):
            number -= self.steps_of(epoch)
            whole, number = divmod(number, self.steps_of(epoch + 1))
            epoch += 1 + whole
        return self.place(epoch, number)


@dataclass(frozen=True)
class Place:
    """The batches of a step.

    Attributes:
        segment: The segment of the step.
        step: The step, counted from 1 over the whole run.
        epoch: The epoch, from 0.
        seen: Samples of the epoch before its first batch, over all processes.
        count: Batches of the step on each process.
    """

    segment: Segment
    step: int
    epoch: int
    seen: int
    count: int
