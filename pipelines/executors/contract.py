"""What the loader hands an executor and gets back: `Settings`, `BatchRequest`, `Executor`,
`Rendered`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.plan.plan import Plan


@dataclass(frozen=True)
class Settings:
    """What every executor is built with.

    Attributes:
        spec: The resolved augmentation.
        batch_size: The most samples of one request.
        dtype: Of the images: float32, bfloat16 or float16.
        device: Where the images go.
        threads: Threads that decode and render.
        depth: Requests under way at once.
        on_bad: "error" raises for a sample that cannot be read, "skip" reports it.
        reuse_buffers: True: images are valid until the next `collect`. False: for good.
    """

    spec: Augmentation
    batch_size: int
    dtype: torch.dtype
    device: torch.device
    threads: int
    depth: int = 2
    on_bad: str = "error"
    reuse_buffers: bool = False


@dataclass(frozen=True)
class BatchRequest:
    """One batch to make. indices int64 [N], all valid; plan: the Plan of these samples in this
    order."""

    indices: npt.NDArray[np.int64]
    plan: Plan

    def __len__(self) -> int:
        return len(self.indices)


@dataclass(frozen=True)
class Rendered:
    """images [N, 3, S, S] channels_last on the device; bad: positions in the batch whose sample
    could not be decoded."""

    images: Tensor
    bad: list[int]


class Executor(Protocol):
    """Plan -> pixels, in the background. Requests come back in the order they were submitted.

    At most `depth` requests may be under way.
    """

    name: str
    depth: int

    def submit(self, job: BatchRequest) -> None:
        """Begin a request; returns at once."""

    def collect(self) -> Rendered:
        """Wait for the oldest request.

        Raises:
            SampleError: on_bad is "error" and a sample cannot be read.
        """

    def reset(self) -> None:
        """Drop all requests under way and be as new, whatever state an exception in `submit`,
        `collect` or `reset` left behind."""

    def stats(self) -> dict[str, float]:
        """Seconds of work per stage since the start: {"decode_seconds": ..., "augment_seconds":
        ...}."""

    def close(self) -> None:
        """End threads and free memory; requests under way are dropped. May be called twice."""
