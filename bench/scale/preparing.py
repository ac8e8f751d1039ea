"""The time, the requests and the memory to prepare a dataset by many workers.

In: the assumptions and the tables. Out: a `Phase` for each part of the work, for the slowest
worker. A worker does its parts one after another, as preprocess/shards.py and preprocess/places do.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from slipform.bench.result.result import Settings
from slipform.bench.scale.assumptions import Assumptions
from slipform.bench.scale.tables import TABLE_BYTES, Tables

__all__ = ["MERGED_AT_ONCE", "Phase", "preparing"]

_CHUNK = 1 << 20  # bytes of a chunk; two for each thread are in memory: write_splits.py
_WRITER = 33  # bytes in memory for each sample of the shard: writer.py
MERGED_AT_ONCE = 8  # records and tables: merge.py, object_folder.py
# Requests of a shard before its upload: one list; the record of another shard, and the claim, each
# size and content twice; a first try to make the claim; an object that is written and deleted.
_BEFORE_UPLOAD = 12


class Phase(NamedTuple):
    """A part of the work.

    Attributes:
        name: What is done.
        seconds: For the slowest worker.
        requests: To the object store, of all workers.
        num_bytes: Sent to or read from the object store, of all workers.
        memory: Of a worker, in bytes, above imports. 0: not counted.
        assumed: What the numbers follow from.
    """

    name: str
    seconds: float
    requests: float
    num_bytes: float
    memory: float
    assumed: Settings


def preparing(given: Assumptions, tables: Tables) -> list[Phase]:
    """The parts of the work, and their sum.

    Args:
        given: The assumptions. A worker takes one shard after another.
        tables: The shards.
    """
    counts = tables.counts
    num_bytes = np.add.reduceat(tables.sizes, np.concatenate([[0], np.cumsum(counts)[:-1]]))
    turns = -(-given.shards // given.workers)  # shards that a worker writes
    count, size = float(counts.max()), float(num_bytes.max())
    phases = [
        _listing(given, turns),
        _writing(given, turns, count, size),
        _upload(given, turns, num_bytes.astype(float)),
        _merging(given),
    ]
    total = Phase(
        "all parts",
        sum(phase.seconds for phase in phases),
        sum(phase.requests for phase in phases),
        sum(phase.num_bytes for phase in phases),
        sum(phase.memory for phase in phases[:2]),
        given.some("samples", "num_bytes", "workers", "shards"),
    )
    return [*phases, total]


def _listing(given: Assumptions, turns: int) -> Phase:
    """Every worker lists all images, for each shard again."""
    seconds = given.samples * (given.stat_seconds / given.list_at_once + given.bookkeeping_seconds)
    memory = given.samples * given.list_bytes
    names = ("stat_seconds", "list_at_once", "bookkeeping_seconds", "list_bytes")
    return Phase("list all images", turns * seconds, 0, 0, memory, given.some(*names))


def _writing(given: Assumptions, turns: int, count: float, size: float) -> Phase:
    """Threads read files and check them, one file after another. Then one core hashes the beton."""
    threads = (size / given.core_bandwidth + count * given.source_seconds) / given.cores
    seconds = max(size / given.source_bandwidth, threads) + size / given.hash_bandwidth
    memory = 2 * given.cores * _CHUNK + _WRITER * count
    names = ("cores", "source_seconds", "source_bandwidth", "core_bandwidth", "hash_bandwidth")
    return Phase("read, check, write", turns * seconds, 0, 0, memory, given.some(*names))


def _upload(given: Assumptions, turns: int, sizes: npt.NDArray[np.float64]) -> Phase:
    """A beton, in parts if it is large, and small objects. One request more asks for each size."""
    parts = np.ceil(sizes / given.part_bytes)
    beton = np.where(parts > 1, parts + 2, 1) + 1  # 2: the begin and the end of the parts
    requests = _BEFORE_UPLOAD + beton + 2 * given.small_objects
    in_turn = np.where(parts > 1, np.ceil(parts / given.parts_at_once) + 2, 1) + 1
    waits = _BEFORE_UPLOAD + in_turn + 2 * given.small_objects
    seconds = float((sizes / given.bandwidth + waits * given.latency).max())
    names = ("latency", "bandwidth", "part_bytes", "parts_at_once", "small_objects")
    return Phase(
        "upload", turns * seconds, float(requests.sum()), float(sizes.sum()), 0, given.some(*names)
    )


def _merging(given: Assumptions) -> Phase:
    """One worker reads the tables and the records from the object store, and writes the manifest.

    For each shard: its record (size and content, each `table_reads` times), begin and end of the
    beton, checksums, names. Then two small objects. Three lists.
    """
    num_bytes = given.samples * (TABLE_BYTES + given.name_letters)
    each, rest = 2 * given.table_reads + 4, 3 * math.ceil(5 * given.shards / 1000) + 4
    seconds = (each * given.shards / MERGED_AT_ONCE + rest) * given.latency
    names = ("latency", "bandwidth", "table_reads", "name_letters")
    return Phase(
        "merge",
        seconds + num_bytes / given.bandwidth,
        each * given.shards + rest,
        num_bytes,
        0,
        given.some(*names),
    )
