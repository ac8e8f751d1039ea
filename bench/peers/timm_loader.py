"""timm's loader: torch's DataLoader with timm's transforms and its PrefetchLoader.

The loader collates uint8 images and normalizes whole batches.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from slipform.bench.peers import endless, grid, without_advice
from slipform.bench.result.result import Settings
from slipform.bench.work import Work

__all__ = ["batches", "candidates", "reason_not"]


def reason_not(work: Work) -> str:
    """See `Peer`."""
    importlib.import_module("timm.data")
    if work.stored == "raw":
        return "reads image files only"
    if work.augment.crop != "random_resized":
        return f'no counterpart of crop = "{work.augment.crop}" here'
    return ""


def candidates(work: Work) -> list[Settings]:
    """See `Peer`."""
    return grid(workers=sorted({work.cores, 2 * work.cores}))


@contextmanager
def batches(work: Work, settings: Settings) -> Iterator[Iterator[tuple[Tensor, Tensor]]]:
    """See `Peer`."""
    import torch
    from timm.data import ImageDataset, create_loader

    augment, jitter = work.augment, work.augment.color_jitter
    mean, std = work.mean_std
    with without_advice():
        loader = create_loader(
            ImageDataset(work.files),
            input_size=(3, augment.image_size, augment.image_size),
            batch_size=work.batch_size,
            is_training=True,
            scale=augment.scale,
            ratio=augment.ratio,
            hflip=augment.flip_probability if augment.flip == "horizontal" else 0.0,
            color_jitter=(jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue),
            interpolation="bilinear",
            mean=tuple(mean),
            std=tuple(std),
            num_workers=int(settings["workers"] or 0),
            pin_memory=work.device.startswith("cuda"),
            img_dtype=getattr(torch, work.dtype),
            device=torch.device(work.device),
            use_prefetcher=True,
        )
        yield endless(lambda: iter(loader))
