"""ffcv's Loader with ffcv's transforms, on the same betons, JPEG or raw.

The transforms are compiled: no Python code runs for a sample. On the CPU, ffcv's fastest conversion
to float32 is its NormalizeImage. On a GPU, uint8 is copied to the GPU, and torch normalizes there:
ffcv's NormalizeImage for GPUs needs cupy. Color jitter is ffcv's three transforms, applied to every
image (p = 1) like torchvision's. ffcv has no hue.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from slipform.bench.peers import endless, grid
from slipform.bench.result.result import Settings
from slipform.bench.work import Work

__all__ = ["batches", "candidates", "reason_not"]


def reason_not(work: Work) -> str:
    """See `Peer`."""
    importlib.import_module("ffcv.loader")  # 14 s
    augment = work.augment
    if augment.color_jitter.hue:
        return "ffcv has no hue"
    if work.dtype == "bfloat16" and not work.device.startswith("cuda"):
        return "ffcv normalizes to numpy's types, which know no bfloat16"
    if augment.crop == "random" and (augment.resize or augment.border != "zero"):
        return "ffcv pads with one color and does not resize before a random crop"
    if augment.crop not in ("random_resized", "random"):
        return f'no counterpart of crop = "{augment.crop}" here'
    return ""


def candidates(work: Work) -> list[Settings]:
    """See `Peer`."""
    return grid(
        workers=sorted({work.cores, max(1, work.cores - 1)}, reverse=True), batches_ahead=[3]
    )


@contextmanager
def batches(work: Work, settings: Settings) -> Iterator[Iterator[tuple[Tensor, Tensor]]]:
    """See `Peer`."""
    from ffcv.fields.decoders import IntDecoder
    from ffcv.loader import Loader, OrderOption
    from ffcv.transforms import Squeeze, ToDevice, ToTensor

    on_gpu, labels = work.device.startswith("cuda"), [IntDecoder(), ToTensor(), Squeeze()]
    if on_gpu:
        import torch

        labels.append(ToDevice(torch.device(work.device)))
    loader = Loader(
        work.beton,
        batch_size=work.batch_size,
        num_workers=int(settings["workers"] or 0),
        batches_ahead=int(settings["batches_ahead"] or 3),
        order=OrderOption.RANDOM,
        os_cache=True,
        drop_last=True,
        pipelines={"image": _image_pipeline(work), "label": labels},
    )
    yield endless(lambda: iter(loader))


def _image_pipeline(work: Work) -> list[Any]:
    """The augmentation of a work as transforms of ffcv, the decoder first."""
    import numpy as np
    from ffcv import transforms as T
    from ffcv.fields.decoders import RandomResizedCropRGBImageDecoder, SimpleRGBImageDecoder

    augment, size = work.augment, work.augment.image_size
    steps: list[Any] = []
    if augment.crop == "random_resized":
        steps.append(RandomResizedCropRGBImageDecoder((size, size), augment.scale, augment.ratio))
    else:
        steps.append(SimpleRGBImageDecoder())
    if augment.flip == "horizontal":
        steps.append(T.RandomHorizontalFlip(augment.flip_probability))
    if augment.crop == "random" and augment.padding:
        steps.append(T.RandomTranslate(augment.padding))
    jitter = augment.color_jitter
    if jitter.brightness:
        steps.append(T.RandomBrightness(jitter.brightness, p=1.0))
    if jitter.contrast:
        steps.append(T.RandomContrast(jitter.contrast, p=1.0))
    if jitter.saturation:
        steps.append(T.RandomSaturation(jitter.saturation, p=1.0))
    mean, std = (np.array(values) * 255 for values in work.mean_std)
    if not work.device.startswith("cuda"):
        return [
            *steps,
            T.NormalizeImage(mean, std, np.dtype(work.dtype).type),
            T.ToTensor(),
            T.ToTorchImage(),
        ]
    import torch
    from torchvision.transforms.v2 import Normalize

    device = torch.device(work.device)
    on_device = [
        T.ToTensor(),
        T.ToDevice(device),
        T.ToTorchImage(),
        T.Convert(getattr(torch, work.dtype)),
    ]
    return [*steps, *on_device, Normalize(mean.tolist(), std.tolist())]
