"""NVIDIA DALI's pipeline: its file reader, its fused decoder with random crop, its torch iterator.

On a GPU the decoding is `mixed`, and the other operators run on the GPU. Otherwise everything runs
on the CPU. DALI has no reader for raw pixels in one file: `external_source` gets shuffled batches.
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
    importlib.import_module("nvidia.dali.plugin.pytorch")
    if work.augment.crop not in ("random_resized", "random"):
        return f'no counterpart of crop = "{work.augment.crop}" here'
    if work.augment.crop == "random" and work.augment.resize and work.augment.padding:
        return "paste pads images of one size only"
    return ""


def candidates(work: Work) -> list[Settings]:
    """See `Peer`."""
    if work.device.startswith("cuda") and work.stored == "jpeg":
        return grid(
            threads=[work.cores, work.cores // 2], queue=[2, 3], hw_decoder_load=[0.65, 0.9]
        )
    return grid(threads=sorted({work.cores, work.cores + 1}), queue=[2, 4], hw_decoder_load=[0.0])


@contextmanager
def batches(work: Work, settings: Settings) -> Iterator[Iterator[tuple[Tensor, Tensor]]]:
    """See `Peer`."""
    import torch
    from nvidia.dali import pipeline_def
    from nvidia.dali.plugin.base_iterator import LastBatchPolicy
    from nvidia.dali.plugin.pytorch import DALIGenericIterator

    on_gpu, dtype = work.device.startswith("cuda"), getattr(torch, work.dtype)

    @pipeline_def(
        batch_size=work.batch_size,
        num_threads=int(settings["threads"] or 1),
        device_id=torch.device(work.device).index or 0 if on_gpu else None,
        prefetch_queue_depth=int(settings["queue"] or 2),
        seed=1,
    )
    def graph() -> Any:
        if work.stored == "raw":
            return _raw_graph(work)
        return _file_graph(work, float(settings["hw_decoder_load"] or 0))

    pipeline = graph()
    iterator = DALIGenericIterator(
        [pipeline],
        ["images", "labels"],
        reader_name="files" if work.stored == "jpeg" else None,
        last_batch_policy=LastBatchPolicy.DROP,
        auto_reset=True,
    )

    def epoch() -> Iterator[tuple[Tensor, Tensor]]:
        for found in iterator:
            images, labels = found[0]["images"], found[0]["labels"]
            yield images.permute(0, 3, 1, 2).to(dtype), labels.view(-1).long()

    yield endless(epoch)


def _file_graph(work: Work, hw_decoder_load: float) -> Any:
    fn, types = _operators()

    augment, on_gpu = work.augment, work.device.startswith("cuda")
    data, labels = fn.readers.file(
        file_root=work.files, random_shuffle=True, initial_fill=4096, name="files"
    )
    device, hardware = ("mixed", {"hw_decoder_load": hw_decoder_load}) if on_gpu else ("cpu", {})
    if augment.crop == "random_resized":
        ranges = {"random_area": list(augment.scale), "random_aspect_ratio": list(augment.ratio)}
        images = fn.decoders.image_random_crop(
            data, device=device, output_type=types.RGB, **ranges, **hardware
        )
        images = fn.resize(
            images, size=(augment.image_size, augment.image_size), interp_type=types.INTERP_LINEAR
        )
    else:
        images = fn.decoders.image(data, device=device, output_type=types.RGB, **hardware)
        if augment.resize:
            images = fn.resize(
                images, resize_shorter=augment.resize, interp_type=types.INTERP_LINEAR
            )
    return _finish(work, images), labels.gpu() if on_gpu else labels


def _raw_graph(work: Work) -> Any:
    import numpy as np

    fn, types = _operators()

    beton, on_gpu = work.open(), work.device.startswith("cuda")
    generator = np.random.default_rng(1)

    def shuffled() -> Iterator[tuple[list[Any], Any]]:
        while True:
            order = generator.permutation(len(beton))
            for start in range(0, len(order) - work.batch_size + 1, work.batch_size):
                chosen = order[start : start + work.batch_size]
                yield [beton.raw(int(index)) for index in chosen], beton.labels[chosen]

    images, labels = fn.external_source(
        source=shuffled(), num_outputs=2, batch=True, dtype=[types.UINT8, types.INT64]
    )
    if on_gpu:
        images, labels = images.gpu(), labels.gpu()
    if work.augment.crop == "random_resized":
        ranges = {
            "random_area": list(work.augment.scale),
            "random_aspect_ratio": list(work.augment.ratio),
        }
        size = (work.augment.image_size, work.augment.image_size)
        images = fn.random_resized_crop(
            images, size=size, interp_type=types.INTERP_LINEAR, **ranges
        )
    return _finish(work, images), labels


def _finish(work: Work, images: Any) -> Any:
    """Color jitter as one color matrix; padding; crop, flip and normalization in one operator."""
    fn, types = _operators()

    augment, jitter = work.augment, work.augment.color_jitter
    if jitter:
        images = fn.color_twist(
            images,
            brightness=_around_one(jitter.brightness),
            contrast=_around_one(jitter.contrast),
            saturation=_around_one(jitter.saturation),
            hue=fn.random.uniform(range=[-360 * jitter.hue, 360 * jitter.hue])
            if jitter.hue
            else 0.0,
        )
    place: dict[str, Any] = {}
    if augment.crop == "random":
        size, padded = augment.image_size, augment.image_size + 2 * augment.padding
        if augment.padding:
            images = fn.paste(images, ratio=padded / size, fill_value=0)
        place = {
            "crop": (size, size),
            "crop_pos_x": fn.random.uniform(range=[0, 1]),
            "crop_pos_y": fn.random.uniform(range=[0, 1]),
        }
    mean, std = work.mean_std
    return fn.crop_mirror_normalize(
        images,
        mirror=fn.random.coin_flip(probability=augment.flip_probability)
        if augment.flip == "horizontal"
        else 0,
        mean=[255 * value for value in mean],
        std=[255 * value for value in std],
        dtype=types.FLOAT16 if work.dtype == "float16" else types.FLOAT,
        output_layout="HWC",
        **place,
    )


def _operators() -> tuple[Any, Any]:
    from nvidia.dali import fn, types

    return fn, types  # as Any: DALI's overloads have no type for the values of a graph


def _around_one(strength: float) -> Any:
    fn, _ = _operators()
    return fn.random.uniform(range=[max(0.0, 1 - strength), 1 + strength]) if strength else 1.0
