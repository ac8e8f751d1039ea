"""The engine `local`: the shards one after another in this process, each with all threads.

In: the work and the shards. Out: how each shard ended. A crash costs one shard: those before it are
finished. The samples are listed once.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

from slipform.preprocess.engines.work import Outcome, Report, ShardWork
from slipform.preprocess.shard_list import ShardList
from slipform.preprocess.shard_record import Shard
from slipform.preprocess.source import SampleSource

__all__ = ["run"]


def run(
    work: ShardWork, samples: SampleSource, shards: Sequence[Shard], report: Report
) -> Generator[Outcome, None, None]:
    """Write shards in this process.

    Args:
        work: How they are written.
        samples: The samples.
        shards: The shards.
        report: Called while a shard is written.

    Yields:
        How each shard ended.
    """
    listed = ShardList(samples)
    for shard in shards:
        yield work.write(shard, report, listed)
