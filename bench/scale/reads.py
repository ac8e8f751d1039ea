"""The requests of a worker in an epoch: which samples it needs, and how their bytes are joined.

In: the order of the loader and the tables. Out: `Requests`, in the order in which they are needed.

A worker reads ahead: it takes the samples of its next batches, as many as `ahead_bytes` hold, and
joins those that lie near each other in a beton. pipelines/mirror/ranges.py does the same.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from slipform.bench.scale.tables import Int64, Tables
from slipform.pipelines.order import EpochOrder

__all__ = ["Requests", "join_neighbors", "plan_requests", "samples_of"]


class Requests(NamedTuple):
    """Ranges of bytes, in the order in which they are needed.

    Attributes:
        starts: int64 [R], positions of the first bytes.
        sizes: int64 [R], in bytes, with the gaps between samples.
        first: int64 [R], the first batch that needs it, from 0.
        last: int64 [R], the last batch that needs it.
    """

    starts: Int64
    sizes: Int64
    first: Int64
    last: Int64


def samples_of(order: EpochOrder, epoch: int) -> Int64:
    """The samples of all workers in an epoch.

    Args:
        order: The order of the loader. Its own rank does not matter.
        epoch: The epoch.

    Returns:
        int64 [batches, workers, batch_size], a view of the order.
    """
    used = order.num_batches * order.global_batch_size
    shape = (order.num_batches, order.world_size, order.batch_size)
    return order.samples(epoch)[:used].reshape(shape)


def plan_requests(
    tables: Tables, samples: Int64, *, ahead_bytes: float, gap: int, most: int
) -> Requests:
    """The requests of a worker.

    Args:
        tables: Where samples lie.
        samples: int64 [batches, batch_size], in the order of the worker.
        ahead_bytes: Batches are joined until they have so many bytes.
        gap: Bytes between two samples of one request, at most.
        most: Bytes of a request for several samples, at most.
    """
    batches, batch_size = samples.shape
    sizes = tables.sizes[samples]
    starts = _window_starts(np.cumsum(sizes.sum(axis=1)), ahead_bytes)
    found = []
    for start, stop in zip(starts, [*starts[1:], batches], strict=True):
        chosen = samples[start:stop].ravel()
        needs = np.repeat(np.arange(start, stop), batch_size)
        found.append(
            join_neighbors(tables.positions[chosen], tables.sizes[chosen], needs, gap, most)
        )
    return Requests(*map(np.concatenate, zip(*found, strict=True)))


def _window_starts(ends: Int64, most: float) -> list[int]:
    """The first batches of windows. A window ends with the batch that fills it."""
    starts, before = [0], 0
    while (stop := int(np.searchsorted(ends, before + most)) + 1) < len(ends):
        starts.append(stop)
        before = int(ends[stop - 1])
    return starts


def join_neighbors(positions: Int64, sizes: Int64, needs: Int64, gap: int, most: int) -> Requests:
    """Join samples that lie near each other.

    Args:
        positions, sizes: int64 [n], where their bytes lie.
        needs: int64 [n], the batches that need them.
        gap: Bytes between two of them, at most.
        most: Bytes of a request for several of them, at most.
    """
    order = np.argsort(positions, kind="stable")
    begins, needs = positions[order], needs[order]
    ends = begins + sizes[order]
    far = np.flatnonzero(begins[1:] - ends[:-1] > gap) + 1
    firsts = _divided(np.concatenate([[0], far, [len(order)]]), begins, ends, most)
    lasts = np.append(firsts[1:], len(order)) - 1
    first_needs = np.minimum.reduceat(needs, firsts)
    by_need = np.argsort(first_needs, kind="stable")
    return Requests(
        starts=begins[firsts][by_need],
        sizes=(ends[lasts] - begins[firsts])[by_need],
        first=first_needs[by_need],
        last=np.maximum.reduceat(needs, firsts)[by_need],
    )


def _divided(bounds: Int64, begins: Int64, ends: Int64, most: int) -> Int64:
    """Where requests begin: runs of near samples, cut where they would be longer than `most`."""
    spans = ends[bounds[1:] - 1] - begins[bounds[:-1]]
    cut = []
    for start, stop in zip(bounds[:-1][spans > most], bounds[1:][spans > most], strict=True):
        first = int(start)
        while True:
            fits = int(np.searchsorted(ends[first:stop], begins[first] + most, "right"))
            first += max(1, fits)
            if first >= stop:
                break
            cut.append(first)
    return np.sort(np.concatenate([bounds[:-1], np.array(cut, np.int64)]))
