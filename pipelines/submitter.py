"""Requests for batches: `Submitter` makes them, and submits them to an executor.

In: positions of batches in the order. Out: their labels and indices. The executor has their request
then.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from threading import get_ident
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from slipform.pipelines.batch import IGNORED_LABEL, Batch
from slipform.pipelines.executors.contract import Executor
from slipform.pipelines.order import EpochOrder
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.plan.plan import Plan, draw
from slipform.pipelines.read_ahead import ReadAhead
from slipform.pipelines.rendering.request import BatchRequest
from slipform.pipelines.samples import Samples

__all__ = ["Position", "Submitted", "Submitter"]

_NO_IMAGES = torch.empty(0)

_Int64 = npt.NDArray[np.int64]
Position = tuple[int, int]  # epoch, samples of it that were seen in the global order


class Submitted(NamedTuple):
    """The batches of a request.

    Attributes:
        batches: The batches, without their images.
        check: Raises DatasetError if a file of the samples was truncated. It is to be called when
            their images are there. None: the executor does that.
    """

    batches: list[Batch]
    check: Callable[[], None] | None


class Submitter:
    """Makes requests, and submits them to an executor.

    Args:
        executor: The executor.
        samples: The samples and their labels.
        augment: The resolved augmentation.
        order: The order of the samples.
        read_ahead: Fetches the samples.
    """

    def __init__(
        self,
        executor: Executor,
        samples: Samples,
        augment: Augmentation,
        order: EpochOrder,
        read_ahead: ReadAhead,
    ) -> None:
        self._executor, self._augment, self._order = executor, augment, order
        self._samples, self._beton, self._read_ahead = samples, samples.beton, read_ahead
        self._executor_checks: bool = getattr(executor, "checks_files", False)
        self._plan_seconds: dict[int, float] = {}  # by thread: each one changes only its own

    def submit(self, positions: list[Position]) -> Submitted:
        """Submit the request for consecutive batches of an epoch.

        Args:
            positions: Their positions.

        Returns:
            The batches.

        Raises:
            SampleError, StorageError, DatasetError: As of `Prefetcher.take`.
        """
        began = time.perf_counter()
        order, epoch = self._order, positions[0][0]
        indices = _concatenated([order.batch(*position) for position in positions])
        padded = not order.drop_last
        valid = np.where(indices < 0, 0, indices) if padded else indices
        # Bytes that are cut off from a file are read as zeros.
        check = partial(self._beton.check_length, self._beton.file_numbers(valid))
        check()
        drawn = None
        if order.draws is not None:
            drawn = _concatenated([order.draw_positions(seen) for _, seen in positions])
        request = BatchRequest(valid, partial(self._draw, epoch), drawn, check)
        self._count_planning(began)
        for position in positions:
            self._read_ahead.wait(*position)
        self._executor.submit(request)
        labels = self._samples.labels(valid)
        if padded:
            labels[indices < 0] = IGNORED_LABEL
        # Not parts of one tensor: a change in place would count as one of all of them in autograd.
        parts = [slice(start, start + order.size) for start in range(0, len(valid), order.size)]
        batches = [
            Batch(_NO_IMAGES, torch.from_numpy(labels[at]), torch.from_numpy(indices[at]))
            for at in parts
        ]
        return Submitted(batches, None if self._executor_checks else check)

    def _draw(self, epoch: int, keys: _Int64) -> Plan:
        """The Plan of samples, or of what was drawn at positions of the epoch."""
        began, drawn = time.perf_counter(), self._order.draws is not None
        indices = self._order.samples(epoch)[keys] if drawn else keys
        heights, widths = self._beton.shapes.of(indices)
        plan = draw(self._augment, keys, heights, widths, self._order.seed, epoch)
        self._count_planning(began)
        return plan

    def _count_planning(self, began: float) -> None:
        own, seconds = get_ident(), time.perf_counter() - began
        self._plan_seconds[own] = self._plan_seconds.get(own, 0.0) + seconds

    @property
    def plan_seconds(self) -> float:
        """Seconds spent on order and Plan since the start, over all threads."""
        return sum(list(self._plan_seconds.values()))


def _concatenated(parts: list[_Int64]) -> _Int64:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
