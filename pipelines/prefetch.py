"""Batches ahead of the consumer: `Prefetcher` keeps an executor busy.

In: the position (epoch, samples seen) of a batch. Out: its indices and pixels. They depend on the
position alone. After an exception, and at an unexpected position, all batches under way are dropped
and made again.

Requests are submitted in a thread: drawing a Plan and preparing a batch take 0.1 to 0.5 ms of
processor time, for which the consumer would wait.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from functools import partial
from threading import get_ident
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from slipform.pipelines.batch import IGNORED_LABEL, Batch
from slipform.pipelines.errors import SlipformError
from slipform.pipelines.executors.contract import Executor
from slipform.pipelines.order import EpochOrder
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.plan.plan import Plan, draw
from slipform.pipelines.read_ahead import ReadAhead, read_ahead
from slipform.pipelines.rendering.request import BatchRequest
from slipform.pipelines.samples import Samples
from slipform.pipelines.stopping import is_asked
from slipform.pipelines.workers import Task, Workers

__all__ = ["Prefetcher"]

_NO_IMAGES = torch.empty(0)
_POLL = 0.002  # seconds between two looks at whether samples have come

_Int64 = npt.NDArray[np.int64]
Position = tuple[int, int]  # epoch, samples of it that were seen in the global order


class _Submitted(NamedTuple):
    batch: Batch  # without its images
    check: Callable[[], None] | None  # to be called when its images are there


# A submitted batch: its position, the next one, its task. No class: the consumer often makes one.
_UnderWay = tuple[Position, Position, Task[_Submitted]]


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
        burst: Number of batches that are submitted together.

    Attributes:
        executor: As given.
        wait_seconds: Seconds spent on waiting for the executor since the start.
    """

    def __init__(
        self,
        executor: Executor,
        samples: Samples,
        augment: Augmentation,
        order: EpochOrder,
        device: torch.device,
        burst: int = 1,
    ) -> None:
        self.executor, self._augment, self._order = executor, augment, order
        self._beton, self._samples = samples.beton, samples
        # An executor that keeps all pixels has read all samples.
        keeps_all = hasattr(executor, "resident_bytes")
        self._read_ahead = ReadAhead() if keeps_all else read_ahead(samples.beton, order)
        self._executor_checks: bool = getattr(executor, "checks_files", False)
        self._under_way: deque[_UnderWay] = deque()
        # Labels and indices of the last batches. The thread that submits frees them. The consumer
        # would take 20 us to free two tensors, in caches that its step has filled.
        self._spent: deque[tuple[Tensor, Tensor]] = deque()
        self._burst = min(burst, executor.depth)
        self._cursor: Position = (0, 0)  # of the next batch to submit
        # True: an exception left `take`, and the executor may be in any state.
        self._interrupted = False
        # The last epoch whose order was computed, and the thread that computes it.
        self._ordered, self._shuffling = -1, Workers(1, "slipform-order")
        self._submitting = Workers(1, "slipform-submit")
        if device.type == "cuda":  # else the thread would open a context on GPU 0
            index = torch.cuda.current_device() if device.index is None else device.index
            self._submitting.on_every_thread(partial(torch.cuda.set_device, index))
        self.wait_seconds = 0.0
        self._plan_seconds: dict[int, float] = {}  # by thread: each one changes only its own

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
        self._begin(position)
        began = time.perf_counter()
        _, after, task = self._under_way[0]
        batch, check = task.result(self._read_ahead.check)
        rendered = self.executor.collect()
        if check is not None:
            check()
        batch.images = rendered.images
        self._under_way.popleft()
        self._read_ahead.release()
        self._spent.append((batch.labels, batch.indices))
        self.wait_seconds += time.perf_counter() - began
        self._interrupted = False
        return batch, rendered.bad, after

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
        for _, _, task in first:
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
        expected = self._under_way[0][0] if self._under_way else self._cursor
        if self._interrupted or expected != position:
            self._restart(position)
        self._interrupted = True
        self._submit_ahead(position[0])

    def _restart(self, position: Position) -> None:
        """Drop all batches under way. An exception in this method leads to another restart."""
        dropped = self._interrupted
        self._interrupted = True
        if dropped or not self._collected_all():
            self._submitting.drop()
            self._read_ahead.cancel()
            self._submitting.settle()
            self.executor.reset()
        self._read_ahead.drop()
        self._under_way.clear()
        self._cursor = position

    def _collected_all(self) -> bool:
        """Collect all batches under way, which are not needed.

        Returns:
            False: one of them has an error, or would wait for an object store.
        """
        try:
            while self._under_way:
                task = self._under_way[0][2]
                if self.is_remote and not task.is_done():
                    return False
                task.result()
                self.executor.collect()
                self._under_way.popleft()
        except SlipformError:
            return False
        return True

    def _submit_ahead(self, epoch_wanted: int) -> None:
        """Submit batches until `executor.depth` are under way, if as many are missing as are
        submitted together. None is begun beyond the next epoch."""
        order = self._order
        if len(self._under_way) > self.executor.depth - self._burst:
            return
        while len(self._under_way) < self.executor.depth:
            epoch, seen = self._cursor
            if epoch > epoch_wanted + order.shuffle:
                return
            task = self._submitting.submit(partial(self._submit, epoch, seen))
            after = order.after(epoch, seen)
            self._under_way.append((self._cursor, after, task))
            self._cursor = after
            if order.shuffle and epoch >= self._ordered:
                self._order_epoch(epoch + 1)

    def _submit(self, epoch: int, seen: int) -> _Submitted:
        """Submit the request for a batch."""
        began = time.perf_counter()
        # The consumer has the last of these, and may still have the one before.
        while len(self._spent) > 2:
            self._spent.popleft()
        indices = self._order.batch(epoch, seen)
        padded = not self._order.drop_last
        valid = np.where(indices < 0, 0, indices) if padded else indices
        # Bytes that are cut off from a file are read as zeros.
        check = partial(self._beton.check_length, self._beton.file_numbers(valid))
        check()
        positions = self._order.draw_positions(seen, len(valid))
        request = BatchRequest(valid, partial(self._draw, epoch), positions, check)
        self._count_planning(began)
        self._read_ahead.wait(epoch, seen)
        self.executor.submit(request)
        labels = self._samples.labels(valid)
        if padded:
            labels[indices < 0] = IGNORED_LABEL
        batch = Batch(_NO_IMAGES, torch.from_numpy(labels), torch.from_numpy(indices))
        return _Submitted(batch, None if self._executor_checks else check)

    def _draw(self, epoch: int, keys: _Int64) -> Plan:
        """The Plan of samples, or of what was drawn at positions of the epoch."""
        began, drawn = time.perf_counter(), self._order.draws is not None
        indices = self._order.samples(epoch)[keys] if drawn else keys
        heights, widths = self._beton.heights[indices], self._beton.widths[indices]
        plan = draw(self._augment, keys, heights, widths, self._order.seed, epoch)
        self._count_planning(began)
        return plan

    def _count_planning(self, began: float) -> None:
        own, seconds = get_ident(), time.perf_counter() - began
        self._plan_seconds[own] = self._plan_seconds.get(own, 0.0) + seconds

    def fetch_stats(self) -> dict[str, float]:
        """What was fetched from an object store; see `ReadAhead.stats`."""
        return self._read_ahead.stats()

    @property
    def plan_seconds(self) -> float:
        """Seconds spent on order and Plan since the start, over all threads."""
        return sum(list(self._plan_seconds.values()))

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
