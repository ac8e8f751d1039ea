"""All shards of a dataset by one command: `write_shards`.

In: how the dataset is written, and the name of an engine. Out: the merged dataset. If a shard
failed, the others are finished, nothing is merged, and an error names each failed shard.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from contextlib import closing

from slipform.pipelines.errors import DatasetError, unknown
from slipform.pipelines.manifest import Manifest
from slipform.preprocess.engines.options import ENGINES
from slipform.preprocess.engines.progress import shard_progress
from slipform.preprocess.engines.work import Engine, Outcome, ShardWork
from slipform.preprocess.merge import merge
from slipform.preprocess.places import place_of
from slipform.preprocess.shard_record import HIDDEN, Shard
from slipform.preprocess.source import SampleSource

__all__ = ["write_shards"]

_SHOWN = 8  # failed shards with the same error that are named


def write_shards(
    work: ShardWork, samples: SampleSource, engine: str | None = None, *, show: bool = False
) -> Manifest:
    """Write all shards that are not finished, and merge them.

    Args:
        work: How they are written.
        samples: The samples of `work`.
        engine: "local" or "ray". None: "local".
        show: Whether progress is shown on standard error.

    Returns:
        The manifest of the dataset.

    Raises:
        ConfigError: There is no such engine, or no such number of shards.
        DatasetError: A shard failed.
        SlipformError: The engine cannot work.
        OSError: The disk is full or fails.
    """
    engine = engine or ENGINES[0]
    if engine not in ENGINES:
        raise unknown("engine", engine, ENGINES)
    run: Engine = importlib.import_module(f"slipform.preprocess.engines.{engine}").run
    last = Shard(work.count, work.count)
    shards = [Shard(number, last.count) for number in range(1, last.count + 1)]
    total = sum(len(split.labels) for split in samples.splits.values())
    failed: list[Outcome] = []
    try:
        with (
            shard_progress(total, len(shards), show=show) as progress,
            closing(run(work, samples, shards, progress.images)) as outcomes,
        ):
            for outcome in outcomes:
                progress.finished(
                    outcome.shard.number,
                    outcome.images,
                    written=outcome.written,
                    error=outcome.error,
                )
                if outcome.error:
                    failed.append(outcome)
    finally:
        place_of(work.out).remove_abandoned(HIDDEN)  # of workers that were killed
    if failed:
        raise DatasetError(_failures(failed, work.count))
    return merge(work.out)


def _failures(failed: Sequence[Outcome], count: int) -> str:
    """All failed shards. An error that several have is told once."""
    shards: dict[str, list[str]] = {}
    for outcome in sorted(failed, key=lambda one: one.shard.number):
        shards.setdefault(outcome.error, []).append(str(outcome.shard))
    lines = [
        f"{len(failed)} of {count} shards failed, so nothing was merged. The other shards are"
        " finished. Repair what is named here, and run the same command again:"
    ]
    for error, names in shards.items():
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        plural = "s" if len(names) > 1 else ""
        lines.append(f"shard{plural} {', '.join(names[:_SHOWN])}{more}: {error}")
    return "\n".join(lines)
