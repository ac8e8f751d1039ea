"""The input of a training step: `Batch`, and `SyntheticLoader`, which repeats one batch.

In: tensors. Out: batches. Nothing in this module reads a file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["IGNORED_LABEL", "Batch", "Mix", "SyntheticLoader", "counted"]

# The label of padding and of masked samples: ignore_index of torch.nn.functional.cross_entropy.
IGNORED_LABEL = -100


def counted(labels: Tensor) -> Tensor:
    """Which samples of a batch count in losses and measures.

    Args:
        labels: The labels of a batch, int64 [N] or float32 [N, C].

    Returns:
        bool [N]; False for padding, and for samples that could not be read.
    """
    return (labels if labels.ndim == 1 else labels[:, 0]) != IGNORED_LABEL


@dataclass(eq=False)
class Mix:
    """The second labels of a batch with MixUp or CutMix.

    The target of a sample is weight * one_hot(label) + (1 - weight) * one_hot(partner's label).
    With several labels or shares of classes, it is the same without one_hot.

    Attributes:
        labels: int64 [N] or float32 [N, C], the labels of the partners.
        weight: float32 [N], in 0..1.
    """

    labels: Tensor
    weight: Tensor

    def to(self, *args: Any, **kwargs: Any) -> Mix:
        """Move both tensors.

        Args:
            *args: As for `Tensor.to`.
            **kwargs: As for `Tensor.to`.

        Returns:
            A new Mix.
        """
        return Mix(self.labels.to(*args, **kwargs), self.weight.to(*args, **kwargs))


@dataclass(eq=False)
class Batch:
    """One batch on the device. `images, labels = batch` works.

    Attributes:
        images: [N, 3, S, S], channels_last, normalized, in the training precision.
        labels: int64 [N]. -100 marks padding and samples that could not be read. Of a dataset with
            several labels an image: float32 [N, C], 1 for each label and 0 for other classes; of
            one with soft labels: the shares of the classes. Rows of -100 do not count.
        indices: int64 [N] on the CPU, positions of the samples in the split. -1 marks padding.
        mix: The second labels. None: no MixUp or CutMix.

    A loader with `reuse_buffers=True` overwrites `images` after the next batch was requested.
    Otherwise no batch overwrites another one. The images of up to 8 small batches may be parts of
    one block of memory, which is freed with the last of them: `clone` those that are saved.

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
        """Move a batch to another device. Lightning and accelerate call this method.

        Args:
            device: The device for images, labels and mix. `indices` stays on the CPU.
            non_blocking: As for `Tensor.to`.

        Returns:
            A new Batch. It shares the tensors that are already on the device.
        """
        return Batch(
            self.images.to(device, non_blocking=non_blocking),
            self.labels.to(device, non_blocking=non_blocking),
            self.indices,
            None if self.mix is None else self.mix.to(device, non_blocking=non_blocking),
        )


class SyntheticLoader:
    """A loader without a pipeline: it repeats one batch that is already on the device.

    The speed of the training step with it is the upper limit for any real loader.

    Args:
        batch_size: Images per batch.
        image_size: Height and width of the images in pixels.
        num_classes: Labels are drawn from 0..num_classes - 1.
        num_batches: Batches of an epoch.
        device: Device of the batch.
        dtype: Data type of the images.
        seed: Seed of images and labels.

    Attributes:
        batch: The batch.
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
