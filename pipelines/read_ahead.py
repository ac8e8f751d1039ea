"""Samples fetched from an object store before their batch is made: `ReadAhead`.

In: a beton of a mirror, the order of its samples. Out: batches whose bytes are on this machine. The
order is known, so samples are fetched in exactly that order, far ahead. The ranges of a window of
batches are joined where they are near each other.

Memory: none but the requests under way. Samples ahead are on the disk, at most a quarter of the
cache.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue

import numpy as np
import numpy.typing as npt

from slipform.pipelines.beton import Beton
from slipform.pipelines.decoding.shared import local_processes
from slipform.pipelines.errors import StorageError, forget_frames
from slipform.pipelines.mirror.beton import MirroredBeton
from slipform.pipelines.mirror.ranges import Piece, requests_at_once
from slipform.pipelines.mirror.reader import Reader
from slipform.pipelines.order import EpochOrder
from slipform.pipelines.stopping import check
from slipform.pipelines.workers import Gate, Workers

__all__ = ["Cancelled", "ReadAhead", "read_ahead"]

# Bytes of samples ahead. At 1 GB/s this is a second. A larger window joins more neighbors: all
# samples of a dataset of 1 GiB are fetched in requests of full size.
_AHEAD = 1 << 30
# Ahead of the beginning of the next epoch: a run may end with this one.
_NEXT_EPOCH = 64 << 20

_Int64 = npt.NDArray[np.int64]
_Position = tuple[int, int]  # epoch, samples of it that were seen in the global order


@dataclass
class _Fetch:
    """A piece under way. Several batches may wait for it."""

    piece: Piece
    done: Gate = field(default_factory=Gate)
    error: BaseException | None = None


@dataclass
class _Batch:
    """A batch whose samples are held: its position, samples, what it waits for, their bytes."""

    position: _Position
    samples: _Int64
    fetches: list[_Fetch]
    num_bytes: int


class Cancelled(Exception):
    """Ends a `wait` whose batch is not needed any more."""


class ReadAhead:
    """Fetches the samples of batches in the order of the epochs. `read_ahead` makes it.

    One thread calls `wait`, and another one the other methods, which return at once. This class is
    for files on this machine: it does nothing.

    Attributes:
        check: Raises Interrupted if this process is asked to stop. None: no sample is remote.
    """

    check: Callable[[], None] | None = None

    def wait(self, epoch: int, seen: int) -> None:
        """Wait until the samples of a batch are there. They are held until `release`.

        Args:
            epoch: The epoch of the batch.
            seen: Samples of the epoch before it.

        Raises:
            StorageError: They cannot be fetched, or are larger than the cache.
            DatasetError: Another dataset is in the object store now.
        """

    def is_there(self, position: _Position) -> bool:
        """Whether the samples of a batch are there, or are not fetched yet: too few fit ahead.

        Args:
            position: The epoch of the batch, and samples of the epoch before it. Batches before it
                were waited for.
        """
        return True

    def release(self) -> None:
        """The oldest batch that was waited for has been made: its bytes are not read any more."""

    def cancel(self) -> None:
        """End a running `wait`. `drop` must follow."""

    def drop(self) -> None:
        """All batches that were waited for are dropped. No `wait` is running."""

    def close(self) -> None:
        """Drop everything. Requests under way end on their own, and are not waited for."""

    def stats(self) -> dict[str, float]:
        """What was fetched since the start; {} for files on this machine.

        Returns:
            {"fetched_bytes": ..., "fetch_seconds": ...}: bytes of samples, and seconds that batches
            waited for them.
        """
        return {}


class _Fetching(ReadAhead):
    """See `ReadAhead`."""

    def __init__(self, beton: MirroredBeton, order: EpochOrder) -> None:
        self._beton, self._order, self._reader = beton, order, beton.reader
        rank, count = local_processes()
        self._ahead = min(_AHEAD, self._reader.budget // count)
        self._ranks = range(max(0, order.rank - rank), order.rank - rank + count)
        self._planned: deque[_Batch] = deque()  # not yet waited for
        self._planned_bytes = 0
        self._held: deque[_Batch] = deque()  # waited for, and not yet released
        self._cursor: _Position = (0, 0)  # of the first batch that is not planned
        self._generation = 0  # of the plan: pieces of an older one are dropped
        self._waiting: _Fetch | None = None
        self._cancelled = self._dropped = False
        self._released: SimpleQueue[None] = SimpleQueue()
        self._fetching = Workers(0, "slipform-fetch")
        self.check = partial(check, beton.url)
        self._reader.next_use = self._next_use
        self._wait_seconds = 0.0

    def wait(self, epoch: int, seen: int) -> None:
        self._release_collected()
        expected = self._planned[0].position if self._planned else self._cursor
        if self._dropped or expected != (epoch, seen):
            self._start_again((epoch, seen))
        self._plan_ahead(epoch)
        batch, began = self._planned[0], time.perf_counter()
        for fetch in batch.fetches:
            self._waiting = fetch  # before the look at _cancelled, which is set before the gate
            if self._cancelled:
                raise Cancelled
            fetch.done.wait()
            if self._cancelled:
                raise Cancelled
            if isinstance(fetch.error, StorageError):
                raise StorageError(
                    f"{fetch.error.message} What was fetched is kept: run the command again, or"
                    " continue a run with: train --resume RUN"
                ) from None
            if fetch.error is not None:
                raise fetch.error
        self._held.append(self._planned.popleft())
        self._planned_bytes -= batch.num_bytes
        self._wait_seconds += time.perf_counter() - began

    def is_there(self, position: _Position) -> bool:
        planned = list(self._planned)  # another thread changes it
        batch = next((one for one in planned if one.position == position), None)
        return batch is None or all(fetch.done.is_open() for fetch in batch.fetches)

    def release(self) -> None:
        self._released.put(None)

    def cancel(self) -> None:
        self._cancelled = True
        if (fetch := self._waiting) is not None:
            fetch.done.open()

    def drop(self) -> None:
        self._dropped = True

    def close(self) -> None:
        self._start_again((0, 0))
        self._fetching.close(wait=False)
        self._reader.next_use = None

    def stats(self) -> dict[str, float]:
        return {
            "fetched_bytes": float(self._reader.transfer.num_bytes),
            "fetch_seconds": self._wait_seconds,
        }

    def _release_collected(self) -> None:
        try:
            while True:
                self._released.get_nowait()
                if self._held:
                    self._reader.release(self._held.popleft().samples)
        except Empty:
            return

    def _start_again(self, position: _Position) -> None:
        self._generation += 1
        while self._held or self._planned:
            batch = (self._held or self._planned).popleft()
            self._reader.release(batch.samples)
        self._release_collected()
        self._cursor, self._waiting, self._planned_bytes = position, None, 0
        self._cancelled = self._dropped = False

    def _plan_ahead(self, epoch: int) -> None:
        """Plan batches until enough bytes are ahead."""
        while True:
            current = self._cursor[0] == epoch
            enough = self._ahead // 2 if current else min(_NEXT_EPOCH, self._ahead // 2)
            more = current or (self._order.shuffle and self._cursor[0] == epoch + 1)
            if self._planned and (self._planned_bytes >= enough or not more):
                return
            self._plan_window(enough)

    def _plan_window(self, most: int) -> None:
        """Hold the samples of the next batches of an epoch, and begin to fetch them."""
        epoch, cursor, total = self._cursor[0], self._cursor, 0
        batches: list[tuple[_Position, _Int64]] = []
        while cursor[0] == epoch and (not batches or total < most):
            indices = self._order.batch(*cursor)
            samples = np.unique(self._beton.samples[np.where(indices < 0, 0, indices)])
            batches.append((cursor, samples))
            total += int(self._reader.sizes[samples].sum())
            cursor = self._order.after(*cursor)
        # Batches after this window are needed later: what is evicted for it follows from this.
        before, self._cursor = self._cursor, cursor
        try:
            pieces = self._reader.hold([samples for _, samples in batches])
        except BaseException:
            self._cursor = before
            raise
        fetches = [_Fetch(piece) for piece in pieces]
        parts = [fetch.piece.samples for fetch in fetches]
        waited = np.concatenate([np.zeros(0, np.int64), *parts])
        by = np.repeat(np.arange(len(fetches)), [len(part) for part in parts])
        order = np.argsort(waited)
        waited, by = waited[order], by[order]
        for position, samples in batches:
            needed = np.unique(by[_found(waited, samples)]).tolist()
            size = int(self._reader.sizes[samples].sum())
            own = [fetches[k] for k in needed]
            self._planned.append(_Batch(position, samples, own, size))
            self._planned_bytes += size
        self._fetching.grow(requests_at_once(pieces))
        for fetch in fetches:
            self._fetching.submit(partial(_run, self, self._reader, fetch, self._generation))

    def _next_use(self) -> _Int64:
        """When the processes on this machine need each sample next, counted from the cursor."""
        order, (epoch, seen) = self._order, self._cursor
        both = ((epoch, seen), (epoch + 1, 0))
        coming = np.concatenate([order.coming(*start, self._ranks) for start in both])
        found = np.full(len(self._reader.sizes), len(coming))
        # Assigned from the last to the first: the first use of a sample counts.
        found[self._beton.samples[coming[::-1]]] = np.arange(len(coming))[::-1]
        return found


def _run(ahead: _Fetching, reader: Reader, fetch: _Fetch, generation: int) -> None:
    try:
        if ahead._generation == generation:
            reader.fetch(fetch.piece)
        else:
            reader.drop(fetch.piece)
    except BaseException as error:
        forget_frames(error)  # see `workers`
        fetch.error = error
    finally:
        fetch.done.open()
        del ahead, reader, fetch


def _found(among: _Int64, samples: _Int64) -> _Int64:
    """Positions in a sorted array of those samples that are in it."""
    at = np.minimum(np.searchsorted(among, samples), len(among) - 1)
    return at[among[at] == samples] if len(among) else at[:0]


def read_ahead(beton: Beton, order: EpochOrder) -> ReadAhead:
    """Begin to fetch samples ahead, if they are in an object store.

    Args:
        beton: The samples.
        order: Their order.
    """
    return _Fetching(beton, order) if isinstance(beton, MirroredBeton) else ReadAhead()
