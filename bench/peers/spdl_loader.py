"""SPDL: a pipeline of threads with FFmpeg decoders that release the GIL.

Crop, resize and flip of an image are one FFmpeg filter; torchvision draws the random numbers. Color
jitter is torchvision's. Normalization works on whole batches.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from slipform.bench.peers import endless, grid
from slipform.bench.result.result import Settings
from slipform.bench.work import Work

__all__ = ["batches", "candidates", "reason_not"]


def reason_not(work: Work) -> str:
    """See `Peer`."""
    try:
        # The first access to one of its functions loads FFmpeg's libraries.
        getattr(importlib.import_module("spdl.io.lib")._libspdl, "make_demuxer")  # noqa: B009
        importlib.import_module("torchvision.transforms.v2")
    except RuntimeError as error:
        raise ImportError(
            "SPDL finds no FFmpeg libraries; install the package ffmpeg of the system"
        ) from error
    if work.stored == "raw":
        return "reads image files only"
    if work.augment.crop != "random_resized":
        return f'no counterpart of crop = "{work.augment.crop}" here'
    return ""


def candidates(work: Work) -> list[Settings]:
    """See `Peer`."""
    return grid(threads=sorted({work.cores, 2 * work.cores}), queue=[4])


@contextmanager
def batches(work: Work, settings: Settings) -> Iterator[Iterator[tuple[Tensor, Tensor]]]:
    """See `Peer`."""
    import numpy as np
    import torch
    from spdl.pipeline import PipelineBuilder

    torch.set_num_threads(1)  # SPDL's own threads use all cores
    beton, generator = work.open(), np.random.default_rng(1)
    # Names are indices in the beton.
    paths = sorted(Path(work.files).glob("*/*.jpg"), key=lambda path: path.name)
    threads = int(settings["threads"] or 1)
    decode = _decoder(work)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) * 255 for values in work.mean_std)
    device, dtype = torch.device(work.device), getattr(torch, work.dtype)

    def order() -> Iterator[tuple[str, int, int, int]]:
        for index in generator.permutation(len(beton)):
            yield (
                str(paths[index]),
                int(beton.heights[index]),
                int(beton.widths[index]),
                int(beton.labels[index]),
            )

    def collate(samples: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
        images = torch.stack([image for image, _ in samples]).permute(0, 3, 1, 2)
        labels = torch.tensor([label for _, label in samples])
        images = (
            images.to(device, non_blocking=True)
            .to(dtype)
            .sub_(mean.to(device, dtype))
            .div_(std.to(device, dtype))
        )
        return images, labels.to(device)

    def epoch() -> Iterator[tuple[Tensor, Tensor]]:
        pipeline = (
            PipelineBuilder()
            .add_source(order())
            .pipe(decode, concurrency=threads)
            .aggregate(work.batch_size, drop_last=True)
            .pipe(collate)
            .add_sink(int(settings["queue"] or 4))
            .build(num_threads=threads + 1)
        )
        with pipeline.auto_stop():
            yield from pipeline.get_iterator()

    yield endless(epoch)


def _decoder(work: Work) -> Any:
    """A function from (path, height, width, label) to (uint8 [S, S, 3], label)."""
    import spdl.io
    import torch
    from torchvision.transforms import v2

    augment, jitter = work.augment, work.augment.color_jitter
    chance = augment.flip_probability if augment.flip == "horizontal" else 0.0
    color = v2.ColorJitter(jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)
    box = v2.RandomResizedCrop(augment.image_size, augment.scale, augment.ratio)

    def decode(sample: tuple[str, int, int, int]) -> tuple[Tensor, int]:
        path, height, width, label = sample
        drawn = box.make_params([torch.empty(3, height, width, device="meta")])
        crop = f"crop={drawn['width']}:{drawn['height']}:{drawn['left']}:{drawn['top']}:exact=1"
        flip = ",hflip" if torch.rand(()) < chance else ""
        size = augment.image_size
        filters = f"format=rgb24,{crop},scale={size}:{size}:flags=bilinear{flip},format=rgb24"
        image = spdl.io.to_torch(spdl.io.load_image(path, filter_desc=filters))
        if jitter:
            image = color(image.permute(2, 0, 1)).permute(1, 2, 0)
        return image, label

    return decode
