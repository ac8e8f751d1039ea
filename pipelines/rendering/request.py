"""Requests to renderers and their results: `Settings`, `BatchRequest`, `Rendered`.

In: sample indices and their Plan. Out: types only. Nothing is rendered in this module.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.plan.plan import Plan

__all__ = ["SMALL_BATCH", "BatchRequest", "Rendered", "Settings", "requests_ahead"]

# Output pixels of a batch that one thread renders in about 0.1 ms. Waking another thread can take
# as long.
SMALL_BATCH = 1 << 17
_REQUEST = 4 * SMALL_BATCH  # output pixels of a request for several batches, at most


def requests_ahead(usual: int, batch_size: int, image_size: int, most: int) -> tuple[int, int]:
    """How many requests to have under way on CPU cores, and for how many batches each of them is.

    A request takes processor time beside its pixels, which several small batches share. For a batch
    of 64 images of CIFAR-10, all threads of the loader took 67 us instead of 192 to 306 (AMD EPYC,
    Zen 3, 2 cores).

    It is for samples that stay on this machine: the cache of an object store must hold those of all
    batches under way.

    Args:
        usual: The number of batches under way if they are not small.
        batch_size: Images in a batch.
        image_size: Side of an image in pixels.
        most: Batches of an epoch.

    Returns:
        (requests, batches of a request): for a batch of at most SMALL_BATCH pixels 4 to 8, as far
        as an epoch has so many. Else (`usual`, 1).
    """
    pixels = batch_size * image_size**2
    count = min(8, _REQUEST // pixels, most) if pixels <= SMALL_BATCH else 1
    return (usual, 1) if count < 2 else (max(2, -(-usual // count)), count)


@dataclass(frozen=True)
class Settings:
    """The settings of an executor.

    Attributes:
        spec: The resolved augmentation.
        batch_size: Largest number of samples in one request.
        dtype: Data type of the images: float32, bfloat16 or float16.
        device: Device of the images.
        threads: Number of threads that decode and render.
        depth: Number of requests under way at the same time.
        on_bad: "error": a sample that cannot be read raises SampleError. "skip": it is reported.
        reuse_buffers: True: images are valid until the next `collect`. False: they stay valid.
        decode_scale: "auto": large JPEGs may be decoded at a fraction of their size. "off": never.
        world_size: Number of processes of the run. Those on one machine share decoded pixels.
        decoder_share: The share of the JPEGs, 0 to 1, that the decoder of a GPU decodes. None: the
            executor's own.
        per_request: Largest number of batches in one request.
    """

    spec: Augmentation
    batch_size: int
    dtype: torch.dtype
    device: torch.device
    threads: int
    depth: int = 2
    on_bad: str = "error"
    reuse_buffers: bool = False
    decode_scale: str = "auto"
    world_size: int = 1
    decoder_share: float | None = None
    per_request: int = 1


@dataclass(frozen=True)
class BatchRequest:
    """One or several batches to make, or a part of them.

    An executor draws its Plan where that suits it: in the calling thread, or part by part in the
    threads that read the pixels.

    Attributes:
        indices: int64 [N], positions in the beton, all valid.
        draw: Draws the Plan of samples, which depends on each sample alone. Any thread may call it.
        positions: int64 [N], `EpochOrder.draw_positions` of the samples, for which `draw` draws
            the Plan. None: the samples were not drawn, and it draws the Plan for `indices`.
        check: Raises DatasetError if a file of the samples was truncated. It is called after their
            bytes were read: what was cut off was read as zeros. None: nothing to check.
    """

    indices: npt.NDArray[np.int64]
    draw: Callable[[npt.NDArray[np.int64]], Plan]
    positions: npt.NDArray[np.int64] | None = None
    check: Callable[[], None] | None = None

    def plan(self) -> Plan:
        """Draw the Plan of the samples. Each call draws it again."""
        return self.draw(self.indices if self.positions is None else self.positions)

    def part(self, at: slice | npt.NDArray[np.int64]) -> BatchRequest:
        """The request for some of the samples.

        Args:
            at: Their positions in the request.
        """
        positions = None if self.positions is None else self.positions[at]
        return BatchRequest(self.indices[at], self.draw, positions, self.check)

    def __len__(self) -> int:
        """The number of samples."""
        return len(self.indices)


@dataclass
class Rendered:
    """One finished request.

    Attributes:
        images: [N, 3, S, S], channels_last, on the device, in `Settings.dtype`.
        bad: Positions in the request of the samples that could not be read.
        parts: The images of each batch, if the request may be for several. Else ().
    """

    images: Tensor
    bad: list[int]
    parts: Sequence[Tensor] = ()
