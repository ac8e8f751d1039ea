"""The time, the requests and the memory of an epoch of training from an object store.

In: the assumptions, the tables, and an order of the samples. Out: an `EpochCost`. The order is the
loader's own (pipelines/order.py), for all samples and all workers.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from slipform.bench.result.result import Settings
from slipform.bench.scale.assumptions import Assumptions
from slipform.bench.scale.queue import Link, Times, epoch_times
from slipform.bench.scale.reads import Requests, plan_requests, samples_of
from slipform.bench.scale.tables import TABLE_BYTES, Int64, Tables
from slipform.pipelines.order import EpochOrder

__all__ = [
    "INDEX_BYTES",
    "EpochCost",
    "Opening",
    "kept_share",
    "opening",
    "order_of",
    "own_samples",
    "training",
]

# For each beton: its size; begin; end; size and content of the checksums. As often as table_reads.
_OPEN_REQUESTS = 5
_MANIFEST = 2  # size and content of dataset.json, as often
_ORDERS = 2  # epochs whose order is in memory: the present one and the next
# Bytes of an open beton for each sample: labels, offsets, sizes, addresses (8 each), heights and
# widths (4 each), modes (1), checksums (4). tests/bench/scale compares it with a real one.
INDEX_BYTES = 45


class Opening(NamedTuple):
    """The start of a training on one worker, from nothing.

    Attributes:
        seconds: Until all tables are there.
        requests, num_bytes: Of all workers.
        memory: Of a process, in bytes: tables and orders, for as long as it trains.
        assumed: What the numbers follow from.
    """

    seconds: float
    requests: float
    num_bytes: float
    memory: float
    assumed: Settings


class EpochCost(NamedTuple):
    """An epoch of all workers.

    Attributes:
        times: Of the slowest of the workers that were simulated.
        requests, num_bytes: Of all workers; bytes with the gaps between samples.
        needed_bytes: Bytes of the samples alone.
        cache_bytes: Bytes of samples that a worker holds at most, in its cache on the disk.
    """

    times: Times
    requests: float
    num_bytes: float
    needed_bytes: float
    cache_bytes: float


def opening(given: Assumptions) -> Opening:
    """Open the dataset: each worker reads the tables of all betons.

    Args:
        given: The assumptions.
    """
    each = _OPEN_REQUESTS * given.table_reads
    requests = given.shards * each + _MANIFEST * given.table_reads
    num_bytes = given.samples * TABLE_BYTES * given.table_reads
    turns = -(-given.shards // given.tables_at_once)
    waits = turns * each + _MANIFEST * given.table_reads
    seconds = waits * given.latency + num_bytes / given.bandwidth
    memory = given.samples * (INDEX_BYTES + 8 * _ORDERS)
    names = ("latency", "bandwidth", "table_reads", "tables_at_once")
    return Opening(
        seconds, requests * given.workers, num_bytes * given.workers, memory, given.some(*names)
    )


def order_of(given: Assumptions, block: int, *, shuffle: bool = True) -> EpochOrder:
    """The order of the loader.

    Args:
        given: The assumptions.
        block: See `EpochOrder`.
        shuffle: See `EpochOrder`.
    """
    return EpochOrder(
        given.samples,
        given.batch_size,
        shuffle=shuffle,
        world_size=given.workers,
        block=block,
        window=given.window,
    )


def own_samples(given: Assumptions, block: int, rank: int) -> Int64:
    """What a worker would read if it had its own part of the dataset, in blocks.

    Slipform has no such order: its samples do not depend on the number of workers.

    Args:
        given: The assumptions.
        block: The size of a block.
        rank: The number of the worker.

    Returns:
        int64 [batches, batch_size].
    """
    share = given.samples // given.workers
    own = replace(given, samples=share, workers=1)
    return samples_of(order_of(own, block), 0)[:, 0] + rank * share


def training(given: Assumptions, tables: Tables, samples: list[Int64], timed: int) -> EpochCost:
    """The cost of an epoch.

    Args:
        given: The assumptions.
        tables: Where samples lie.
        samples: For each worker int64 [batches, batch_size], in its order.
        timed: The number of workers whose time is simulated.
    """
    plans: list[Requests] = []
    requests, num_bytes, needed = 0, 0, 0
    for rank, own in enumerate(samples):
        plan = plan_requests(
            tables, own, ahead_bytes=given.ahead_bytes, gap=given.gap, most=given.request_bytes
        )
        requests += len(plan.sizes)
        num_bytes += int(plan.sizes.sum())
        needed += int(tables.sizes[own].sum())
        if rank < timed:
            plans.append(plan)
    spacing = given.workers / given.store_requests
    at_once = _at_once(given, requests, num_bytes)
    link = Link(given.latency, given.bandwidth, at_once, spacing)
    step, room = given.batch_size / given.step_images_per_second, 2 * given.ahead_bytes
    times = [epoch_times(plan, len(samples[0]), step, link, room) for plan in plans]
    return EpochCost(max(times, key=lambda one: one.whole), requests, num_bytes, needed, room)


def _at_once(given: Assumptions, requests: int, num_bytes: int) -> int:
    """Requests under way. Small ones are more, so that as many bytes are under way."""
    wanted = given.at_once * given.request_bytes * requests // num_bytes
    return max(given.at_once, min(wanted, given.most_at_once))


def kept_share(order: EpochOrder, rank: int, sizes: Int64, cache_bytes: float) -> float:
    """The share of the samples of the second epoch that a worker has in its cache from the first.

    The cache keeps what it has read and will need again; so it needs only little room.

    Args:
        order: The order of the loader.
        rank: The worker.
        sizes: int64 [N], bytes of all samples.
        cache_bytes: The size of the cache.
    """
    read = np.zeros(order.num_samples, bool)
    read[samples_of(order, 0)[:, rank].ravel()] = True
    second = samples_of(order, 1)[:, rank].ravel()
    again = second[read[second]]
    fits = int(np.searchsorted(np.cumsum(sizes[again]), cache_bytes, "right"))
    return fits / max(1, len(second))
