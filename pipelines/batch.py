"""What a training step consumes: `Batch`, and `SyntheticLoader`, which repeats one batch.

In: tensors. Out: batches; nothing here reads a file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["IGNORED_LABEL", "Batch", "Mix", "SyntheticLoader"]

# torch.nn.functional.cross_entropy's ignore_index: marks padding and masked samples.
IGNORED_LABEL = -100


@dataclass(eq=False)
class Mix:
    """Second labels of a batch under MixUp or CutMix.

    The target of a sample is weight * one_hot(label) + (1 - weight) * one_hot(partner's label).

    Attributes:
        labels: The partners' labels, int64 [N].
        weight: float32 [N] in 0..1.
    """

    labels: Tensor
    weight: Tensor

    def to(self, *args: Any, **kwargs: Any) -> Mix:
        """The same with both tensors moved by `Tensor.to`."""
        return Mix(self.labels.to(*args, **kwargs), self.weight.to(*args, **kwargs))


@dataclass(eq=False)
class Batch:
    """One batch on the device. `images, labels = batch` works.

    Attributes:
        images: [N, 3, S, S], channels_last, normalized, in the training precision.
        labels: int64 [N]; -100 for padding and for samples that could not be read.
        indices: int64 [N] on the CPU: each sample's position in its beton, -1 for padding.
        mix: The second labels; None without MixUp and CutMix.

    From a loader with `reuse_buffers=True`, `images` is valid until the next batch is asked for.
    Otherwise a batch has memory of its own.

    Example:
        ```python
        import slipform as sf

        with sf.Loader("data/shapes", "val", batch_size=16, training=False) as loader:
            for batch in loader:
                images, labels = batch
                assert len(images) == len(labels) == len(batch.indices) == 16
        ```
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    mix: Mix | None = None

    def __len__(self) -> int:
        """The number of samples, padding included."""
        return len(self.labels)

    def __iter__(self) -> Iterator[Tensor]:
        """Images, then labels."""
        return iter((self.images, self.labels))

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """A batch on another device. Lightning and accelerate move batches by this method.

        Args:
            device: Where images, labels and mix go. `indices` stays on the CPU.
            non_blocking: As in `Tensor.to`.

        Returns:
            A new Batch; tensors that are already there are shared with this one.
        """
        return Batch(
            self.images.to(device, non_blocking=non_blocking),
            self.labels.to(device, non_blocking=non_blocking),
            self.indices,
            None if self.mix is None else self.mix.to(device, non_blocking=non_blocking),
        )


class SyntheticLoader:
    """A loader without a pipeline: `num_batches` times the same batch, already on the device.

    The step's speed on it is the ceiling that a real loader is measured against.

    Args:
        batch_size: Images per batch.
        image_size: Their height and width in pixels.
        num_classes: Labels are drawn from 0..num_classes - 1.
        num_batches: Length of an epoch.
        device: Where the batch lies.
        dtype: Of the images.
        seed: Of their random numbers.
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
