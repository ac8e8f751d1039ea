"""MixUp and CutMix of a batch that is already on the device.

In: a Batch and a MixPlan. Out: a new Batch, whose `mix` holds the labels of the partners. The
arithmetic is one pass over the images.
"""

from __future__ import annotations

import torch

from slipform.pipelines.batch import Batch, Mix
from slipform.pipelines.plan.plan import MixPlan
from slipform.pipelines.upload import upload

__all__ = ["mix"]


def mix(batch: Batch, plan: MixPlan) -> Batch:
    """Mix the images of a batch.

    Args:
        batch: The batch.
        plan: The numbers of MixUp or CutMix.

    Returns:
        A new Batch on the same device. The label of a sample is masked (negative) if its own label
        or that of its partner is. If the batch is not mixed, each sample is its own partner, and
        the images are those of `batch`.
    """
    if plan.weight == 1.0 and plan.box is None:
        weight = torch.ones(len(batch), device=batch.images.device)
        return Batch(batch.images, batch.labels, batch.indices, Mix(batch.labels, weight))
    partner = upload(plan.partner, batch.images.device)
    images = batch.images
    if plan.box is None:
        # In place: another batch of new memory costs page faults on a CPU.
        images = images[partner].lerp_(images, plan.weight)
    else:
        x0, y0, x1, y1 = plan.box
        mixed = images.clone(memory_format=torch.channels_last)
        mixed[:, :, y0:y1, x0:x1] = images[partner, :, y0:y1, x0:x1]
        images = mixed
    partners = batch.labels[partner]
    labels = torch.where(partners < 0, partners, batch.labels)
    weight = torch.full((len(batch),), plan.weight, device=images.device)
    return Batch(images, labels, batch.indices, Mix(partners, weight))
