"""Small runs of what `bench scale` simulates, and the assumptions that hold for them.

In: a number of images, workers, shards, and a latency. Out: what the model says of each part of the
work, and what was measured: seconds of the slowest worker, and requests of all workers.

The workers are processes of this machine, and so is the server, moto's. They share its cores: only
with a latency that is long beside the time of a request is this like many machines. Each worker has
a cache of its own.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from slipform.bench.race.worker import Worker
from slipform.bench.remote.server import ObjectServer
from slipform.bench.scale.assumptions import Assumptions
from slipform.bench.scale.drawn import BATCH, drawn_source
from slipform.bench.scale.preparing import preparing
from slipform.bench.scale.reads import samples_of
from slipform.bench.scale.tables import made_tables
from slipform.bench.scale.training import opening, order_of, training
from slipform.pipelines import read_ahead
from slipform.pipelines.loader import Loader
from slipform.pipelines.manifest import read_manifest
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.remote.store import open_store
from slipform.preprocess.build import build_dataset
from slipform.preprocess.merge import merge
from slipform.preprocess.shard_list import ShardList
from slipform.preprocess.shard_record import Shard
from slipform.preprocess.shards import write_shard

__all__ = ["Case", "Part", "measured", "with_measured"]

_AUGMENT = Augmentation(image_size=32, crop="random_resized", flip="horizontal")
_ASKED = 24  # requests


@dataclass(frozen=True)
class Case:
    """What is run.

    Attributes:
        source: The folder with the images; `draw_images` writes it.
        given: samples, num_bytes, spread, workers, shards and latency are those of the run.
        block: Samples of a block, for the order in blocks.
    """

    source: Path
    given: Assumptions
    block: int


@dataclass(frozen=True)
class Part:
    """A part of the work.

    Attributes:
        name: What is done.
        modeled_seconds, modeled_requests: What the model says.
        seconds, requests: What was measured.
    """

    name: str
    modeled_seconds: float
    seconds: float
    modeled_requests: float
    requests: float


def with_measured(case: Case, server: ObjectServer, folder: Path) -> Case:
    """Measure the assumptions about this machine, each by itself.

    Args:
        case: The case.
        server: The server. The environment has its address.
        folder: A folder for a local dataset, which the workers read later.

    Returns:
        The case with latency, bandwidth, bookkeeping_seconds, core_bandwidth and
        step_images_per_second as measured.
    """
    given, count = case.given, case.given.samples
    listing = _seconds(lambda: ShardList(drawn_source(case.source, count)).complete())
    writing = _seconds(lambda: build_dataset(drawn_source(case.source, count), folder, threads=1))
    store = open_store(server.new_folder())
    content = bytes(8 << 20)
    store.put("large", content)
    whole = [_seconds(lambda: store.read_range("large", 0, len(content))) for _ in range(_ASKED)]
    one = [_seconds(lambda: store.read_range("large", 0, 1)) for _ in range(_ASKED)]
    latency = float(np.median(one))
    with _workers(given.workers) as workers:
        turns = [(folder, rank, given.workers) for rank in range(given.workers)]
        _all(workers, _local_epoch, turns)  # it compiles
        steps = _all(workers, _local_epoch, turns)
    images = count // given.workers
    return replace(
        case,
        given=replace(
            given,
            latency=latency,
            bandwidth=len(content) / max(1e-6, float(np.median(whole)) - latency),
            bookkeeping_seconds=listing / count,
            core_bandwidth=given.num_bytes / writing,
            step_images_per_second=images / max(steps),
        ),
    )


def measured(case: Case, server: ObjectServer, local: Path, caches: Path) -> list[Part]:
    """Prepare the images, and train an epoch in two orders.

    Args:
        case: The case, with measured assumptions.
        server: The server.
        local: The dataset that `with_measured` wrote.
        caches: An empty folder for the caches of the workers.
    """
    given, url = case.given, server.new_folder()
    tables, parts = made_tables(given), list[Part]()
    listing, writing, upload, merging, _ = preparing(given, tables)

    def note(name: str, seconds: float, modeled_seconds: float, modeled_requests: float) -> None:
        found = len(server.requests)
        parts.append(Part(name, modeled_seconds, seconds, modeled_requests, found))
        server.requests.clear()

    with _workers(given.workers) as workers:
        every = range(given.workers)
        _all(workers, _import, [()] * given.workers)
        server.requests.clear()
        turns = [(case.source, url, rank, given) for rank in every]
        seconds = max(_all(workers, _write_shards, turns))
        expected = listing.seconds + writing.seconds + upload.seconds
        note("list, write and upload shards", seconds, expected, upload.requests)
        seconds = _all(workers[:1], _merge, [(url,)])[0]
        note("merge", seconds, merging.seconds, merging.requests)
    for name, block in (("shuffled", 0), (f"blocks of {case.block}", case.block)):
        size = _cache_bytes(url)
        own = replace(given, ahead_bytes=_ahead(url) / 2)
        with _workers(given.workers) as workers:
            server.requests.clear()
            for rank in range(given.workers):
                cache = caches / f"{block}-{rank}"
                workers[rank].keep(_opened, url, local, cache, size, rank, given, block)
            if not block:
                opened, begun = (
                    max(_all(workers, _Reading.opened, [()] * given.workers)),
                    opening(own),
                )
                note("open", opened, begun.seconds, begun.requests)
            server.requests.clear()
            seconds = max(_all(workers, _Reading.epoch, [()] * given.workers))
        samples = [*np.moveaxis(samples_of(order_of(own, block), 0), 1, 0)]
        cost = training(own, tables, samples, given.workers)
        note(f"an epoch, {name}", seconds, cost.times.whole, cost.requests)
    return parts


def _seconds(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


@contextmanager
def _workers(count: int) -> Iterator[list[Worker]]:
    with ExitStack() as stack:
        yield [stack.enter_context(Worker()) for _ in range(count)]


def _all(
    workers: Sequence[Worker], function: Callable[..., float], arguments: Sequence[tuple[Any, ...]]
) -> list[float]:
    """Call a function in all workers at the same time."""
    with ThreadPoolExecutor(len(workers)) as pool:
        return list(pool.map(lambda one, given: one.call(function, *given), workers, arguments))


def _import() -> float:
    return 0.0


def _write_shards(source: Path, url: str, rank: int, given: Assumptions) -> float:
    """Write every `workers`-th shard. Each makes its own list, as in prep --shard K/N."""
    begin = time.perf_counter()
    for number in range(rank + 1, given.shards + 1, given.workers):
        write_shard(
            drawn_source(source, given.samples), url, Shard(number, given.shards), threads=1
        )
    return time.perf_counter() - begin


def _merge(url: str) -> float:
    return _seconds(lambda: merge(url))


def _cache_bytes(url: str) -> int:
    """A cache that has not room for the whole dataset."""
    return int(0.9 * read_manifest(url).split("train").bytes)


def _ahead(url: str) -> float:
    """Bytes that a reader fetches ahead with this cache: a quarter, without the tables."""
    count = read_manifest(url).split("train").num_samples
    return (_cache_bytes(url) - 48 * count) / 4


def _loader(folder: Path | str, rank: int, world_size: int, block: int = 0) -> Loader:
    # With one batch under way, no batch of the next epoch is fetched.
    return Loader(
        folder, "train", _AUGMENT, batch_size=BATCH, executor="host", threads=1, prefetch=1,
        rank=rank, world_size=world_size, block=block, reuse_buffers=True,
    )  # fmt: skip


def _local_epoch(folder: Path, rank: int, world_size: int) -> float:
    with _loader(folder, rank, world_size) as loader:
        return _seconds(lambda: [None for _ in loader])


class _Reading:
    """An open loader of an object store, in its process."""

    def __init__(self, loader: Loader, seconds: float) -> None:
        self._loader, self._seconds = loader, seconds

    def opened(self) -> float:
        """Seconds that the opening took."""
        return self._seconds

    def epoch(self) -> float:
        """Read an epoch. Returns the seconds."""
        return _seconds(lambda: [None for _ in self._loader])


@contextmanager
def _opened(
    url: str, local: Path, cache: Path, size: int, rank: int, given: Assumptions, block: int
) -> Iterator[_Reading]:
    """Open the dataset with an empty cache. What is compiled is compiled before."""
    _local_epoch(local, rank, given.workers)
    read_ahead._NEXT_EPOCH = 0
    os.environ["SLIPFORM_CACHE"] = str(cache)
    os.environ["SLIPFORM_CACHE_SIZE"] = str(size)
    begin = time.perf_counter()
    with _loader(url, rank, given.workers, block) as loader:
        yield _Reading(loader, time.perf_counter() - begin)
