"""Sources for engines: the samples of `made`, and workers that die while they read them.

In: what happens. Out: functions that list the samples, as `ShardWork.open` wants them.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from slipform.preprocess.encode import Encoding
from slipform.preprocess.engines.work import Opener, ShardWork
from slipform.preprocess.source import Generated, SampleSource
from tests.preprocess.made import COUNT, made

# A sample in the middle of a shard.
MIDDLE, MIDDLE_SHARD = 20, 3


@contextmanager
def listed(bad: tuple[int, ...] = ()) -> Iterator[SampleSource]:
    """The samples of `made`."""
    yield made(bad=bad)


@contextmanager
def dying(pids: Path, times: int) -> Iterator[SampleSource]:
    """The same samples. The process that reads MIDDLE is killed, so many times.

    `pids` gets a line for each process that reads it.
    """
    source = made()
    train = source.splits["train"]

    def make(index: int) -> object:
        if index == MIDDLE:
            with open(pids, "a", encoding="utf-8") as file:
                file.write(f"{os.getpid()}\n")
            if len(pids.read_text(encoding="utf-8").splitlines()) <= times:
                os.kill(os.getpid(), signal.SIGKILL)
        return train.read(index)

    samples = Generated(make, train.labels, "made", train.table)
    yield replace(source, splits={**source.splits, "train": samples})


@contextmanager
def defective() -> Iterator[SampleSource]:
    """The same samples. Reading MIDDLE raises an exception that only a defect raises."""
    source = made()
    train = source.splits["train"]

    def make(index: int) -> object:
        if index == MIDDLE:
            raise TypeError("a defect")
        return train.read(index)

    samples = Generated(make, train.labels, "made", train.table)
    yield replace(source, splits={**source.splits, "train": samples})


def work(out: Path, opened: Opener = listed, threads: int = 0, portable: bool = False) -> ShardWork:
    """The work on COUNT shards."""
    return ShardWork(opened, out, Encoding(), "error", threads, COUNT, portable)


@dataclass(frozen=True)
class _Noted(Generated):
    """Samples whose sizes are known. `notes` gets a line for each size that is asked for."""

    notes: Path = Path()

    def num_bytes(self, index: int) -> int:
        with open(self.notes, "a", encoding="utf-8") as file:
            file.write("size\n")
        return 1


@contextmanager
def noted(notes: Path) -> Iterator[SampleSource]:
    """The same samples, with sizes. `notes` gets a line for each list that is made, too."""
    source = made()
    with open(notes, "a", encoding="utf-8") as file:
        file.write("list\n")
    splits = {
        name: _Noted(samples.read, samples.labels, "made", samples.table, notes)
        for name, samples in source.splits.items()
    }
    yield replace(source, splits=splits)
