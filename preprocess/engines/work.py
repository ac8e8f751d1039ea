"""What engines have in common: the work on one shard, how it ended, and the protocol of an engine.

In: how a dataset is written, and the number of a shard. Out: the files of the shard, and an
`Outcome`.

To add an engine, add one file to this folder that has the function of the `Engine` protocol, and
its name to `options.ENGINES`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from slipform.pipelines.errors import reported
from slipform.pipelines.stopping import is_asked
from slipform.preprocess.encode import Encoding
from slipform.preprocess.shard_list import ShardList
from slipform.preprocess.shard_record import Shard
from slipform.preprocess.shards import write_shard
from slipform.preprocess.source import SampleSource

__all__ = ["Engine", "Opener", "Outcome", "Report", "ShardWork"]

Opener = Callable[[], AbstractContextManager[SampleSource]]
# Report(number, images): so many images of the shard with this number are done.
Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Outcome:
    """How the work on a shard ended.

    Attributes:
        shard: The shard.
        images: The number of its images, including those that were left out. 0 after an error.
        written: Whether it was written now. False: it was finished before, or there was an error.
        error: Why the shard is not finished: the input and what is wrong. "": it is finished.
    """

    shard: Shard
    images: int = 0
    written: bool = False
    error: str = ""


@dataclass(frozen=True)
class ShardWork:
    """How the shards of a dataset are written. A worker on another machine gets a copy.

    Attributes:
        open: Lists the samples. It can be pickled, and its paths are absolute.
        out: The dataset folder, which all workers share. An absolute path, or a URL.
        encoding, on_bad, threads: As for `write_shard`.
        count: The number of shards.
        portable: Whether a list of the samples is valid in other processes, too: its paths are
            absolute, and no archive was unpacked for it.
    """

    open: Opener
    out: Path | str
    encoding: Encoding
    on_bad: str
    threads: int
    count: int
    portable: bool = False

    def write(self, shard: Shard, report: Report, samples: ShardList | None = None) -> Outcome:
        """Write one shard, unless it is finished.

        Args:
            shard: The shard.
            report: Called after each chunk of images.
            samples: The list of all samples. None: it is made, and not kept.

        Returns:
            How it ended. An error that a user can mend is a part of it. Others are raised, and any
            error after Ctrl-C.
        """
        done = 0

        def progress(num_samples: int) -> None:
            nonlocal done
            done += num_samples
            report(shard.number, done)

        try:
            with nullcontext(samples) if samples is not None else self.open() as source:
                manifest, written = write_shard(
                    source,
                    self.out,
                    shard,
                    self.encoding,
                    threads=self.threads,
                    on_bad=self.on_bad,
                    progress=progress,
                )
        except Exception as error:
            # After Ctrl-C an error may be what became of the interrupt, not a fault of the shard.
            if is_asked() or (known := reported(error)) is None:
                raise
            return Outcome(shard, error=known.format_message())
        images = sum(info.num_samples for info in manifest.splits.values()) + manifest.rejected
        return Outcome(shard, images, written)


class Engine(Protocol):
    """The function `run` of a module in this folder."""

    def __call__(
        self, work: ShardWork, samples: SampleSource, shards: Sequence[Shard], report: Report
    ) -> Generator[Outcome, None, None]:
        """Write shards.

        Args:
            work: How they are written.
            samples: The samples of `work`, listed in this process.
            shards: The shards.
            report: Called while shards are written.

        Yields:
            How each shard ended, in any order. If the generator is closed earlier, all work ends.

        Raises:
            SlipformError: The engine cannot work at all.
        """
