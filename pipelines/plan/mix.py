"""MixUp and CutMix of a batch that is already on the device.

In: a Batch and a MixPlan. Out: a new Batch, whose `mix` holds the labels of the partners.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from slipform.pipelines.batch import Batch, Mix
from slipform.pipelines.plan.mix_plan import MixPlan
from slipform.pipelines.upload import upload

__all__ = ["blend", "mix"]


def mix(batch: Batch, plan: MixPlan) -> Batch:
    """Mix the images of a batch.

    Args:
        batch: The batch.
        plan: The numbers of MixUp or CutMix.

    Returns:
        A new Batch on the same device. The label of a sample is masked (negative) if its own label
        or that of its partner is. An image that is not mixed is its own partner. If none is mixed,
        the images are those of `batch`.
    """
    device, images = batch.images.device, batch.images
    if (plan.weight == 1.0).all():
        weight = torch.ones(len(batch), device=device)
        return Batch(images, batch.labels, batch.indices, Mix(batch.labels, weight))
    partner = upload(plan.partner, device)
    if len(plan.weight) > 1:
        numbers = plan.weight.astype(np.float32), plan.box
        return blend(batch, partner, *(upload(array, device) for array in numbers))
    if plan.box.any():
        x0, y0, x1, y1 = plan.box[0]
        mixed = images.clone(memory_format=torch.channels_last)
        mixed[:, :, y0:y1, x0:x1] = images[partner, :, y0:y1, x0:x1]
    else:
        # In place: another batch of new memory costs page faults on a CPU.
        mixed = images[partner].lerp_(images, float(plan.weight[0]))
    weight = torch.full((len(batch),), float(plan.weight[0]), device=device)
    return Batch(mixed, *_labels(batch, partner, weight))


def blend(batch: Batch, partner: Tensor, weight: Tensor, box: Tensor) -> Batch:
    """The same as `mix`, with numbers that are on the device. The host does not wait for it.

    Args:
        batch: The batch, of N images.
        partner: int64 [N].
        weight: float32 [1 or N].
        box: [1 or N, 4], of any type. See MixPlan.

    Returns:
        A new Batch.
    """
    images = batch.images
    others = images[partner]  # index_select would not keep channels last
    at = torch.arange(images.shape[2], device=images.device)
    x0, y0, x1, y1 = box[:, :, None].unbind(1)
    inside = ((at >= y0) & (at < y1))[:, :, None] & ((at >= x0) & (at < x1))[:, None, :]
    # The weight of a cut image is that of its labels. Its pixels outside the box stay.
    share = weight.masked_fill(box[:, 2] > box[:, 0], 1.0)[:, None, None, None]
    mixed = torch.lerp(others.float(), images.float(), share).to(images.dtype)
    mixed = torch.where(inside[:, None], others, mixed)
    return Batch(mixed, *_labels(batch, partner, weight.expand(len(batch))))


def _labels(batch: Batch, partner: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Mix]:
    """What a mixed Batch has beside its images. `weight` is float32 [N]."""
    labels = batch.labels
    is_mixed = (weight < 1).view(-1, *[1] * (labels.ndim - 1))
    partners = torch.where(is_mixed, labels.index_select(0, partner), labels)
    return torch.where(partners < 0, partners, labels), batch.indices, Mix(partners, weight)
