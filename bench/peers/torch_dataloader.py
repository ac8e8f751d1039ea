"""torch.utils.data.DataLoader with torchvision.transforms.v2, the most common loader.

JPEGs are read from files and decoded by Pillow or torchcodec: the search chooses the setting
`decode`. torchcodec takes the place of torchvision's own decoder, which will be removed. Raw pixels
are read from the memory-mapped beton. On a GPU, `decode = "cuda"` decodes a batch with nvJPEG and
crops on the GPU.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from slipform.bench.peers import endless, grid, without_advice
from slipform.bench.result.result import Settings
from slipform.bench.work import Work

__all__ = ["RawImages", "batches", "candidates", "reason_not", "transform"]


def reason_not(work: Work) -> str:
    """See `Peer`."""
    importlib.import_module("torchvision.transforms.v2")
    if work.stored == "jpeg":
        importlib.import_module("torchcodec.decoders")
    if work.augment.crop not in ("random_resized", "random", "center"):
        return f'no counterpart of crop = "{work.augment.crop}" here'
    return ""


def candidates(work: Work) -> list[Settings]:
    """See `Peer`."""
    decoders = ["none"] if work.stored == "raw" else ["torchcodec", "pillow"]
    found = grid(workers=sorted({work.cores, 2 * work.cores}), prefetch=[2, 4], decode=decoders)
    if work.stored == "jpeg" and work.device.startswith("cuda"):
        found += grid(workers=[work.cores // 2, work.cores], prefetch=[2], decode=["cuda"])
    return found


@contextmanager
def batches(work: Work, settings: Settings) -> Iterator[Iterator[tuple[Tensor, Tensor]]]:
    """See `Peer`."""
    import torch
    from torch.utils.data import DataLoader

    on_gpu, decode = work.device.startswith("cuda"), str(settings["decode"])
    dataset: Any = RawImages(work) if work.stored == "raw" else _ImageFiles(work, decode)
    with without_advice():
        loader: Any = DataLoader(
            dataset,
            batch_size=work.batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=int(settings["workers"] or 0),
            prefetch_factor=int(settings["prefetch"] or 2),
            persistent_workers=True,
            pin_memory=on_gpu and decode != "cuda",
            collate_fn=_as_lists if decode == "cuda" else None,
        )
    dtype, device = getattr(torch, work.dtype), torch.device(work.device)
    finish = (
        _on_gpu(work)
        if decode == "cuda"
        else lambda images: images.to(device, dtype, non_blocking=True)
    )
    with without_advice():
        yield endless(
            lambda: (
                (finish(images), labels.to(device, non_blocking=True)) for images, labels in loader
            )
        )


class _ImageFiles:
    """A dataset of image files in class folders, with augmentation of single images."""

    def __init__(self, work: Work, decode: str) -> None:
        paths = sorted(Path(work.files).glob("*/*.jpg"))
        self._samples = [(str(path), int(path.parent.name)) for path in paths]
        self._decode = decode
        self._transform = None if decode == "cuda" else transform(work)

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        path, label = self._samples[index]
        if self._decode == "pillow":
            from PIL import Image

            with Image.open(path) as image:
                return self._transform(image.convert("RGB")), label  # type: ignore[misc]
        if self._transform is None:
            from torchvision import io

            return io.read_file(path), label
        from torchcodec.decoders import decode_jpeg

        return self._transform(decode_jpeg(path, mode="RGB")), label


class RawImages:
    """A dataset of the raw pixels in a beton, with augmentation of single images.

    Args:
        work: The work of the loader.
    """

    def __init__(self, work: Work) -> None:
        self._beton = work.open()
        self._transform = transform(work)

    def __len__(self) -> int:
        return len(self._beton)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        import torch

        pixels = torch.from_numpy(self._beton.raw(index).copy()).permute(2, 0, 1)
        return self._transform(pixels), int(self._beton.labels[index])


def transform(work: Work, *, normalize: bool = True) -> Any:
    """The augmentation of a work as transforms of torchvision.

    Args:
        work: The work.
        normalize: The result is float32 and normalized. Otherwise it is uint8.

    Returns:
        A function from a uint8 image (a PIL image, or a tensor [3, H, W]) to a tensor [3, S, S].
    """
    import torch
    from torchvision.transforms import v2

    augment, steps = work.augment, list[Any]()
    steps.append(v2.ToImage())
    if augment.crop == "random_resized":
        steps.append(
            v2.RandomResizedCrop(augment.image_size, augment.scale, augment.ratio, antialias=True)
        )
    else:
        if augment.resize:
            steps.append(v2.Resize(augment.resize, antialias=True))
        random = augment.crop == "random"
        steps.append(
            v2.RandomCrop(augment.image_size, augment.padding)
            if random
            else v2.CenterCrop(augment.image_size)
        )
    if augment.flip == "horizontal":
        steps.append(v2.RandomHorizontalFlip(augment.flip_probability))
    jitter = augment.color_jitter
    if jitter:
        steps.append(
            v2.ColorJitter(jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)
        )
    if normalize:
        steps += [v2.ToDtype(torch.float32, scale=True), v2.Normalize(*work.mean_std)]
    return v2.Compose([*steps, v2.ToPureTensor()])


def _as_lists(samples: list[tuple[Tensor, int]]) -> tuple[list[Tensor], Tensor]:
    import torch

    return [data for data, _ in samples], torch.tensor([label for _, label in samples])


def _on_gpu(work: Work) -> Any:
    """A function from the JPEG bytes of a batch to images.

    nvJPEG decodes the batch, each image is cropped on the GPU, and the whole batch is normalized.
    """
    import torch
    from torchvision import io
    from torchvision.transforms import v2

    crop = transform(work, normalize=False)
    normalize = v2.Compose(
        [v2.ToDtype(getattr(torch, work.dtype), scale=True), v2.Normalize(*work.mean_std)]
    )

    def finish(data: list[Tensor]) -> Tensor:
        images = io.decode_jpeg(data, mode=io.ImageReadMode.RGB, device=work.device)
        return normalize(torch.stack([crop(image) for image in images]))

    return finish
