"""The batches of a training loader, made by the device alone: `DeviceBatches`.

In: resident pixels on the device, the order of the epochs, a position. Out: consecutive batches in
the same memory. Nothing comes from the host: kernels draw the Plan, render the pixels and move the
position. Each replay of a CUDA graph of `make` makes a new batch. The batches are those of the
Loader. `slipform.pipelines.plan.triton` says how far their Plans are equal.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from slipform.pipelines.batch import Batch
from slipform.pipelines.executors.resident_pixels import ResidentPixels
from slipform.pipelines.plan.device import DevicePlan
from slipform.pipelines.plan.mix import blend
from slipform.pipelines.plan.mix_plan import draw_mix, partners_of
from slipform.pipelines.sequence import BatchSequence
from slipform.pipelines.upload import upload

__all__ = ["DeviceBatches", "device_batches"]


def device_batches(sequence: BatchSequence) -> DeviceBatches | None:
    """The batches of a loader, made by the device alone, from the position of the loader on.

    Args:
        sequence: The position and order of the loader.

    Returns:
        The batches. None: this is not possible, because the loader does not train, its pixels are
        not resident on a GPU, some of them cannot be read, samples are drawn by weights, images
        have several labels, there are own augmentations, which the host draws, or the kernels do
        not render the augmentation.
    """
    pixels, order = getattr(sequence.ahead.executor, "pixels", None), sequence.order
    if order.draws is not None or sequence.samples.table is not None or sequence.augment.own:
        return None
    if sequence.augment.on_cores or not order.shuffle or pixels is None or pixels.bad.any():
        return None
    return DeviceBatches(pixels, sequence)


class DeviceBatches:
    """Makes consecutive batches. `device_batches` builds it.

    Args:
        pixels: All stored images, in the memory of the device.
        sequence: The position and order of the loader. The order is shuffled, without partial
            batches.

    Attributes:
        batch_size: Images per batch and process.
    """

    def __init__(self, pixels: ResidentPixels, sequence: BatchSequence) -> None:
        order, device, beton = sequence.order, pixels.device, sequence.samples.beton
        augment = sequence.augment
        self._pixels, self._augment, self._device = pixels, augment, device
        self._sequence, self._order = sequence, order
        self.batch_size = order.size
        self._plan = DevicePlan(
            augment,
            beton.heights,
            beton.widths,
            beton.labels,
            seed=order.seed,
            batch_size=order.size,
            first=order.first,
            global_batch_size=order.global_batch_size,
            device=device,
        )
        size = augment.image_size
        self._out = torch.empty((order.size, size, size, 3), dtype=pixels.dtype, device=device)
        self._mixes = augment.mixup > 0 or augment.cutmix > 0
        # For each batch of an even and of an odd epoch: rows of weight and box, as in a MixPlan.
        rows = 1 if augment.mix_mode == "batch" else order.size
        shape = (2, order.num_batches if self._mixes else 0, rows, 5)
        self._mix_table = torch.zeros(shape, dtype=torch.float32, device=device)
        self._partner = torch.from_numpy(partners_of(augment.mix_mode, order.size)).to(device)
        # epoch % 2 -> the epoch whose order is on the device, and the samples before its batches.
        self._ready: dict[int, tuple[int, int]] = {}

    def begin(self) -> None:
        """Go to the position of the loader.

        Call it before the first batch of each epoch: the device holds the orders of two epochs.
        """
        epoch, seen = self._sequence.done.epoch, self._sequence.done.seen
        for one in (epoch, epoch + 1):
            # A position that was saved with another batch size may lie inside a global batch.
            order = self._order
            before = seen % order.global_batch_size if one == epoch else 0
            if self._ready.get(one % 2) != (one, before):
                self._plan.set_order(one, order.samples(one))
                if self._mixes:
                    rows = upload(self._draw_mixes(one, before), self._device)
                    self._mix_table[one % 2].copy_(rows, non_blocking=True)
                self._ready[one % 2] = (one, before)
        self._plan.go_to(epoch, seen)

    def make(self) -> Batch:
        """Enqueue the next batch and move the position. The host does not wait.

        Returns:
            The batch. The next call overwrites its tensors. `indices` is on the device.
        """
        plan = self._plan
        rows = self._mix_rows() if self._mixes else None
        plan.draw()
        self._pixels.render(self._augment, plan.indices, plan.numbers, self._out)
        batch = Batch(self._out.permute(0, 3, 1, 2), plan.labels, plan.indices)
        return batch if rows is None else blend(batch, self._partner, rows[:, 0], rows[:, 1:])

    def count(self, batches: int) -> None:
        """Move the position of the loader past batches that were enqueued.

        Args:
            batches: Number of batches.
        """
        self._sequence.skip(batches)

    def _mix_rows(self) -> Tensor:
        """The rows of `_mix_table` for the batch at the position, float32 [1 or N, 5]."""
        epoch, seen = self._plan.position[:1], self._plan.position[1:2]
        number = torch.div(seen, self._order.global_batch_size, rounding_mode="floor")
        # `_mix_table[epoch, number]` would read the indices on the host.
        at = epoch % 2 * self._order.num_batches + number
        return self._mix_table.flatten(0, 1).index_select(0, at)[0]

    def _draw_mixes(self, epoch: int, before: int) -> npt.NDArray[np.float32]:
        """`_mix_table` of an epoch, as `BatchSequence.next` numbers the batches."""
        order = self._order
        table = np.zeros(self._mix_table.shape[1:], np.float32)
        for k in range(order.num_batches):
            number = order.batch_number(before + k * order.global_batch_size)
            plan = draw_mix(self._augment, order.size, order.seed, epoch, number)
            assert plan is not None
            table[k, :, 0], table[k, :, 1:] = plan.weight, plan.box
        return table
