"""The batches of each step of a run.

In: a run folder. Out: for a step, its settings, and the position of its batches in the epoch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from slipform.pipelines.errors import ConfigError
from slipform.pipelines.manifest import read_manifest
from slipform.train.config.recipe import parse_config
from slipform.train.config.run_config import RunConfig
from slipform.train.config.toml import to_toml
from slipform.train.records import read_summary
from slipform.train.run.checkpoint import load_all
from slipform.train.run.folder import run_config
from slipform.train.run.starts import STARTS, Start, read_starts

__all__ = ["Place", "Segment", "history", "place_of_step"]


@dataclass(frozen=True)
class Segment:
    """The steps between a start of a run and the next start.

    Attributes:
        start: The start.
        config: Its settings, parsed; data.folder is the dataset.
        end: The last step before the next start, counted from 1; the last one of training if there
            is none.
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
        return int(self.config.train.batch_size) * self.start.world_size

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


def history(run: Path) -> list[Segment]:
    """The segments of a run, the oldest first.

    A run of an older version has no starts.jsonl: all its steps are read as if it had never been
    resumed with other settings.

    Args:
        run: The run folder.

    Raises:
        SlipformError: It is no run folder, or its records are damaged.
    """
    starts = read_starts(run) or [_of_old_run(run)]
    segments: list[Segment] = []
    for start, after in zip(starts, [*starts[1:], None], strict=True):
        config = parse_config(start.config, str(run / STARTS))
        if not isinstance(config.train.batch_size, int):
            raise ConfigError(f'{run}: train.batch_size is "auto", not a number')
        segment = Segment(start, config, 0)
        end = segment.steps_before(config.train.epochs) if after is None else after.step
        segments.append(Segment(start, config, end))
    return segments


def _of_old_run(run: Path) -> Start:
    """The start of a run of an older version, from its other files."""
    config, summary = run_config(run), read_summary(run) or {}
    saved = next(load_all(run, lambda _: None), {})
    executor = saved.get("executor")
    named = executor if isinstance(executor, dict) else {}
    random = saved.get("random")
    processes = summary.get("processes") or (len(random) if isinstance(random, list) else 1)
    return Start(
        0,
        0,
        0,
        int(processes),
        str(summary.get("executor") or named.get("name") or config.data.executor),
        str(named.get("device", "cpu")),
        read_manifest(run).split("train").num_samples,
        "",
        to_toml(config),
    )


def place_of_step(segments: list[Segment], step: int) -> Place:
    """The place of a step.

    Args:
        segments: The segments of a run.
        step: The step, counted from 1 over the whole run.

    Raises:
        ConfigError: The run has no such step.
    """
    segment = next((one for one in segments if one.start.step < step <= one.end), None)
    if segment is None:
        first = segments[0].start.step + 1
        raise ConfigError(f"step {step}: give a step from {first} to {segments[-1].end}")
    epoch = segment.start.epoch
    number = step - segment.start.step - 1
    if number >= segment.steps_of(epoch):
        number -= segment.steps_of(epoch)
        whole, number = divmod(number, segment.steps_of(epoch + 1))
        epoch += 1 + whole
    return segment.place(epoch, number)
