"""What a training step eats: `Batch`, and `SyntheticLoader`, which gives the same one again and
again.

In: tensors. Out: frozen values; nothing here reads a file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

IGNORED_LABEL = (
    -100
)  # torch.nn.functional.cross_entropy's ignore_index: marks padding and masked samples


@dataclass(frozen=True)
class Mix:
    """Second labels of a batch under MixUp or CutMix: target = weight * one_hot(label) + (1 -
    weight) * one_hot(partner).

    labels: int64 [N] of the partners. weight: float32 [N] in 0..1.
    """

    labels: Tensor
    weight: Tensor


@dataclass(frozen=True)
class Batch:
    """One batch on the device.

    images [N, 3, S, S] channels_last, normalized, in the training precision; labels int64 [N], -100
    for padding; indices int64 [N], on the CPU, each sample's position in its beton, -1 for padding;
    mix: None without MixUp and CutMix.

    `images` is valid until the next batch is asked for: loaders reuse a small ring of buffers.
    Clone to keep.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    mix: Mix | None = None

    def __len__(self) -> int:
        return len(self.labels)


class SyntheticLoader:
    """A loader without a pipeline: `num_batches` times the same batch, already on the device.

    The step's speed on it is the ceiling that a real loader is measured against.
    """

    def __init__(
        self,
        *,
        batch_size: int,
        image_size: int,
        num_classes: int,
        num_batches: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        seed: int = 0,
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        images = torch.randn(batch_size, 3, image_size, image_size, generator=generator)
        labels = torch.randint(num_classes, (batch_size,), generator=generator)
        self.batch = Batch(
            images=images.to(device=device, dtype=dtype, memory_format=torch.channels_last),
            labels=labels.to(device),
            indices=torch.arange(batch_size),
        )
        self._num_batches = num_batches

    def __len__(self) -> int:
        return self._num_batches

    def __iter__(self) -> Iterator[Batch]:
        for _ in range(self._num_batches):
            yield self.batch
