"""The engine `ray`: each shard is a task of Ray, on this machine or on a cluster.

In: the work and the shards. Out: how each shard ended. Ray repeats a task whose process or machine
died. An actor counts the images that are done.

Ray is found as usual: the cluster of RAY_ADDRESS, or one that runs on this machine, or a new one on
this machine for the time of this command.
"""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import chdir, contextmanager
from dataclasses import replace
from typing import Any

from slipform.pipelines.errors import SlipformError
from slipform.preprocess.engines.work import Outcome, Report, ShardWork
from slipform.preprocess.shard_list import ShardList
from slipform.preprocess.shard_record import Shard
from slipform.preprocess.source import SampleSource

__all__ = ["run"]

_RETRIES = 3  # of a task whose process died
_SECONDS = 0.5  # between two looks at the progress
_PATIENCE = 30.0  # seconds for Ray to answer, or to end canceled tasks


def run(
    work: ShardWork, samples: SampleSource, shards: Sequence[Shard], report: Report
) -> Generator[Outcome, None, None]:
    """Write shards as tasks of Ray. A task reserves one CPU for each of its threads.

    Args:
        work: How they are written. `threads` = 0 means one thread for each task.
        samples: The samples. The list is made once, if it is valid in other processes. Otherwise
            each task makes it.
        shards: The shards.
        report: Called while shards are written.

    Yields:
        How each shard ended.

    Raises:
        SlipformError: Ray is not installed, or cannot be started or reached.
    """
    try:
        ray = importlib.import_module("ray")
    except ImportError:
        raise SlipformError(
            '--engine ray needs Ray, which is not installed: pip install "slipform[ray]"'
        ) from None
    work = replace(work, threads=work.threads or 1)
    with _connected(ray):
        listed = _shared(ray, work, samples)
        counts = ray.remote(num_cpus=0, max_restarts=-1)(_Counts).remote()
        cpus = min(work.threads, _largest_machine(ray))
        task = ray.remote(num_cpus=cpus, max_retries=_RETRIES)(_write)
        pending = {
            task.options(name=f"shard {shard}").remote(work, shard, counts, listed): shard
            for shard in shards
        }
        try:
            while pending:
                done, _ = ray.wait([*pending], timeout=_SECONDS)
                _tell(ray, counts, report)
                for reference in done:
                    yield _outcome(ray, reference, pending.pop(reference))
        finally:
            # Only after an error or Ctrl-C. A shard is whole or not there, so a task may be killed.
            for reference in pending:
                ray.cancel(reference, force=True)
            if pending:
                ray.wait([*pending], num_returns=len(pending), timeout=_PATIENCE)


def _shared(ray: Any, work: ShardWork, samples: SampleSource) -> Any:
    """The list of all samples in the memory of Ray. None: each task makes its own."""
    if not work.portable:
        return None
    listed = ShardList(samples).complete()
    try:
        return ray.put(listed)
    except TypeError:  # it cannot be pickled: it has an open file, of unpacked tars
        return None


class _Counts:
    """The number of images that are done, by number of the shard. An actor."""

    def __init__(self) -> None:
        self._done: dict[int, int] = {}

    def write(self, number: int, images: int) -> None:
        self._done[number] = images

    def read(self) -> dict[int, int]:
        return self._done


def _write(work: ShardWork, shard: Shard, counts: Any, listed: ShardList | None) -> Outcome:
    """Write one shard, in a worker of Ray."""
    told = 0.0

    def report(number: int, images: int) -> None:
        nonlocal told
        if (now := time.monotonic()) - told >= _SECONDS:
            told = now
            counts.write.remote(number, images)

    # After the death of a worker the images are counted from 0 again.
    counts.write.remote(shard.number, 0)
    return work.write(shard, report, listed)


@contextmanager
def _connected(ray: Any) -> Iterator[None]:
    """A connection to Ray. One that the caller has made stays open."""
    if ray.is_initialized():
        yield
        return
    # A Ray that is started here sends no statistics to its makers, unless the user wants it.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        # Ray puts the working folder on the import path of its workers, where a user's click.py
        # would hide the real one.
        with chdir("/"):
            ray.init(include_dashboard=False, log_to_driver=False, logging_level="WARNING")
    except Exception as error:  # of Ray: of several classes
        cause = (str(error) or type(error).__name__).splitlines()[0]
        where = os.environ.get("RAY_ADDRESS", "")
        raise SlipformError(
            f"Ray {f'at RAY_ADDRESS={where} cannot be reached' if where else 'cannot be started'}:"
            f" {cause}"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _largest_machine(ray: Any) -> int:
    """The CPUs of the largest machine. A task that reserves more would wait forever."""
    found = [node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]]
    return max(1, int(max(found, default=1)))


def _tell(ray: Any, counts: Any, report: Report) -> None:
    """Report the images that are done. Without an answer the shards are written all the same."""
    try:
        found = ray.get(counts.read.remote(), timeout=_PATIENCE)
    except ray.exceptions.RayError:
        return
    for number, images in found.items():
        report(number, images)


def _outcome(ray: Any, reference: Any, shard: Shard) -> Outcome:
    """How a task ended."""
    try:
        outcome: Outcome = ray.get(reference)
    except ray.exceptions.RayTaskError as error:  # a defect: its last line names it
        return Outcome(shard, error=str(error).strip().splitlines()[-1])
    except ray.exceptions.RayError as error:
        cause = str(error).strip().splitlines()[0]
        return Outcome(
            shard,
            error=f"the process of this shard died {_RETRIES + 1} times: it was killed, or had too"
            f" little memory, or its machine was lost ({cause})",
        )
    return outcome
