"""Batches ahead of the consumer: `Prefetcher` keeps an executor busy.

In: the position (epoch, samples seen) of a batch. Out: its indices and pixels. They depend on the
position alone. After an exception, and at an unexpected position, all batches that were made or
begun ahead are dropped and made again.

Requests are submitted in a thread: drawing a Plan and preparing a batch take 0.1 to 0.5 ms of
processor time, for which the consumer would wait. About half of it is the same for 64 images as for
512, so several small batches are one request.
"""

from __future__ import annotations

import time
from collections import deque
from functools import partial

import torch
from torch import Tensor

from slipform.pipelines.batch import Batch
from slipform.pipelines.errors import SlipformError
from slipform.pipelines.executors.contract import Executor
from slipform.pipelines.order import EpochOrder
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.read_ahead import ReadAhead, read_ahead
from slipform.pipelines.samples import Samples
from slipform.pipelines.stopping import is_asked
from slipform.pipelines.submitter import Position, Submitted, Submitter
from slipform.pipelines.workers import Task, Workers

__all__ = ["Prefetcher"]

_POLL = 0.002  # seconds between two looks at whether samples have come

# A request for consecutive batches of an epoch: their positions and the one after them; its task.
_Request = tuple[list[Position], Task[Submitted]]
# A batch that is made: its place in the order, the batch, which of its samples could not be read,
# and the place of the next one.
_Ready = tuple[Position, Batch, list[int], Position]


class Prefetcher:
    """Submits batches to an executor in order, and collects them.

    If `order.shuffle` is set, batches of the next epoch are begun before the present one ends, and
    none beyond it. Otherwise none are begun beyond the epoch of the batch that was asked for.

    Args:
        executor: The executor. `close` closes it.
        samples: The samples and their labels.
        augment: The resolved augmentation.
        order: The order of the samples.
        device: Device of the batches.
        per_request: Largest number of batches of a request. 1 if the samples are in an object
            store: each batch is waited for.

    Attributes:
        executor, per_request: As given.
        wait_seconds: Seconds spent on waiting for the executor since the start.
    """

    def __init__(
        self,
        executor: Executor,
        samples: Samples,
        augment: Augmentation,
        order: EpochOrder,
        device: torch.device,
        per_request: int = 1,
    ) -> None:
        self.executor, self._order = executor, order
        # An executor that keeps all pixels has read all samples.
        keeps_all = hasattr(executor, "resident_bytes")
        self._read_ahead = ReadAhead() if keeps_all else read_ahead(samples.beton, order)
        self._submitter = Submitter(executor, samples, augment, order, self._read_ahead)
        self._under_way: deque[_Request] = deque()
        self._ready: deque[_Ready] = deque()  # of the last request
        # Labels and indices of the last requests. The thread that submits frees them. The consumer
        # would take 20 us to free two tensors, in caches that its step has filled.
        self._spent: deque[list[tuple[Tensor, Tensor]]] = deque()
        assert per_request == 1 or not self.is_remote
        self.per_request = per_request
        self._cursor: Position = (0, 0)  # of the next batch to submit
        # Batches of the next request. It begins with 1, so that the first batch comes soon, and
        # that one that cannot be read does not keep those before it.
        self._count = 1
        # True: an exception left `take`, and the executor may be in any state.
        self._interrupted = False
        # The last epoch whose order was computed, and the thread that computes it.
        self._ordered, self._shuffling = -1, Workers(1, "slipform-order")
        self._submitting = Workers(1, "slipform-submit")
        if device.type == "cuda":  # else the thread would open a context on GPU 0
            index = torch.cuda.current_device() if device.index is None else device.index
            self._submitting.on_every_thread(partial(torch.cuda.set_device, index))
        self.wait_seconds = 0.0

    def take(self, position: Position) -> tuple[Batch, list[int], Position]:
        """Wait for a batch.

        Args:
            position: Its epoch, and the samples of the epoch before it.

        Returns:
            The batch, with its labels on the CPU; the positions in it of samples that could not be
            read, padding included; the position after it.

        Raises:
            SampleError: A sample of this batch, or of one that was begun ahead, cannot be read.
            StorageError: A sample cannot be fetched from its object store.
            Interrupted: This process is asked to stop, and samples are not there.
            DatasetError: The beton was truncated or replaced while it was open.
        """
        ready = self._ready
        if not ready or ready[0][0] != position or self._interrupted:
            self._make(position)
        # If an exception comes after this line, the next call finds another position here.
        _, batch, bad, after = ready.popleft()
        return batch, bad, after

    def _make(self, position: Position) -> None:
        """Wait for the request that begins with the batch at a position."""
        self._begin(position)
        began = time.perf_counter()
        positions, task = self._under_way[0]
        batches, check = task.result(self._read_ahead.check)
        rendered = self.executor.collect()
        if check is not None:
            check()
        self._under_way.popleft()
        parts, bad, size = rendered.parts or [rendered.images], rendered.bad, self._order.size
        for k, (batch, batch_images) in enumerate(zip(batches, parts, strict=True)):
            batch.images = batch_images
            own = [i - k * size for i in bad if k * size <= i < (k + 1) * size] if bad else []
            self._ready.append((positions[k], batch, own, positions[k + 1]))
            self._read_ahead.release()
        self._spent.append([(batch.labels, batch.indices) for batch in batches])
        self.wait_seconds += time.perf_counter() - began
        self._interrupted = False

    @property
    def is_remote(self) -> bool:
        """Whether samples are fetched from an object store."""
        return self._read_ahead.check is not None

    def await_samples(self, position: Position, count: int) -> bool:
        """Wait until the samples of the next batches are on this machine. No batch is taken.

        A step of a training may take several batches. It should not begin before all of their
        samples are there: between two steps, a run can write a checkpoint.

        Args:
            position: As for `take`, the position of the first batch.
            count: How many batches of this epoch.

        Returns:
            False: this process is asked to stop, and they are not there.

        Raises:
            StorageError: A sample cannot be fetched from its object store.
        """
        if not self.is_remote:
            return True
        self._begin(position)
        while not self._are_there(position, count):
            if is_asked():
                return False
            time.sleep(_POLL)
        self._interrupted = False
        return True

    def _are_there(self, position: Position, count: int) -> bool:
        """Whether the samples of batches are there, or cannot be planned ahead so far."""
        first = list(self._under_way)[:count]
        for _, task in first:
            if not task.is_done():
                return False
            task.raise_error()
        for _ in first:
            position = self._order.after(*position)
        for _ in range(count - len(first)):
            if not self._read_ahead.is_there(position):
                return False
            position = self._order.after(*position)
        return True

    def _begin(self, position: Position) -> None:
        """Have the batches from a position on under way."""
        expected = self._under_way[0][0][0] if self._under_way else self._cursor
        if self._interrupted or self._ready or expected != position:
            self._restart(position)
        self._interrupted = True
        self._submit_ahead(position[0])

    def _restart(self, position: Position) -> None:
        """Drop all batches that were made or begun ahead. An exception in this method leads to
        another restart."""
        dropped = self._interrupted
        self._interrupted = True
        if dropped or not self._collected_all():
            self._submitting.drop()
            self._read_ahead.cancel()
            self._submitting.settle()
            self.executor.reset()
        self._read_ahead.drop()
        self._under_way.clear()
        self._ready.clear()
        self._cursor, self._count = position, 1

    def _collected_all(self) -> bool:
        """Collect all requests under way, which are not needed.

        Returns:
            False: one of them has an error, or would wait for an object store.
        """
        try:
            while self._under_way:
                _, task = self._under_way[0]
                if self.is_remote and not task.is_done():
                    return False
                task.result()
                self.executor.collect()
                self._under_way.popleft()
        except SlipformError:
            return False
        return True

    def _submit_ahead(self, epoch_wanted: int) -> None:
        """Submit requests until `executor.depth` are under way. None is begun beyond the next
        epoch, and none has batches of two epochs."""
        order = self._order
        while len(self._under_way) < self.executor.depth:
            epoch = self._cursor[0]
            if epoch > epoch_wanted + order.shuffle:
                return
            positions = [self._cursor]
            while len(positions) <= self._count and positions[-1][0] == epoch:
                positions.append(order.after(*positions[-1]))
            task = self._submitting.submit(partial(self._submit, positions[:-1]))
            self._under_way.append((positions, task))
            self._cursor, self._count = positions[-1], min(2 * self._count, self.per_request)
            if order.shuffle and epoch >= self._ordered:
                self._order_epoch(epoch + 1)

    def _submit(self, positions: list[Position]) -> Submitted:
        """Submit the request for batches of an epoch."""
        # The consumer has batches of the last of these, and may still have one of the one before.
        while len(self._spent) > 2:
            self._spent.popleft()
        return self._submitter.submit(positions)

    def fetch_stats(self) -> dict[str, float]:
        """What was fetched from an object store; see `ReadAhead.stats`."""
        return self._read_ahead.stats()

    @property
    def plan_seconds(self) -> float:
        """Seconds spent on order and Plan since the start, over all threads."""
        return self._submitter.plan_seconds

    def _order_epoch(self, epoch: int) -> None:
        """Compute the order of an epoch in the background. A million samples take 0.1 s."""
        self._ordered = epoch
        self._shuffling.submit(partial(self._order.samples, epoch))

    def cancel(self) -> None:
        """End the waiting for an object store. `close` must follow."""
        self._read_ahead.cancel()

    def close(self) -> None:
        """End the threads. A second call does nothing."""
        self._read_ahead.cancel()
        self._submitting.close()
        self._shuffling.close()
        self.executor.close()
        self._read_ahead.close()
        self._under_way.clear()
        self._ready.clear()
