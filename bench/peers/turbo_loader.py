"""TurboLoader: a pool of C++ threads that decodes, crops and normalizes in one pass.

It reads the same JPEGs from a tar file and decodes only the part of an image that the random crop
needs (`train_aug`). Its decoded format, .tbl, is not raced: it stores squares of one size, which is
other work than random crops of whole images.
"""

from __future__ import annotations

import importlib
import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from slipform.bench.peers import endless, grid
from slipform.bench.result.result import Settings
from slipform.bench.work import Work

__all__ = ["batches", "candidates", "reason_not"]


def reason_not(work: Work) -> str:
    """See `Peer`."""
    importlib.import_module("turboloader")
    if work.stored == "raw":
        return "reads JPEGs in tar files; its decoded format has squares of one size only"
    augment = work.augment
    if augment.crop != "random_resized":
        return f'no counterpart of crop = "{augment.crop}"'
    if (augment.scale, augment.ratio) != ((0.08, 1.0), (3 / 4, 4 / 3)):
        return "its random crops have torchvision's scale and ratio only"
    jitter = augment.color_jitter
    if jitter.brightness or jitter.contrast or jitter.saturation or jitter.hue:
        return "its fused pass has no color jitter"
    if work.dtype != "float32":
        return f"gives float32 from tar files, not {work.dtype}"
    return ""


def candidates(work: Work) -> list[Settings]:
    """See `Peer`. Its pool takes all cores by itself."""
    return grid(queue=[4, 2])


@contextmanager
def batches(work: Work, settings: Settings) -> Iterator[Iterator[tuple[Tensor, Tensor]]]:
    """See `Peer`."""
    import torch
    import turboloader

    from slipform.pipelines.beton import Beton

    torch.set_num_threads(1)  # its own threads use all cores
    beton, augment = Beton(work.beton), work.augment
    labels = torch.from_numpy(beton.labels.copy())
    mean, std = work.mean_std
    loader = turboloader.DataLoader(
        str(_tar(work, beton)),
        batch_size=work.batch_size,
        num_workers=work.cores,
        prefetch_batches=int(settings["queue"] or 4),
        shuffle=True,
        drop_last=True,
        image_size=augment.image_size,
        output_format="pytorch",
        antialias=True,
        train_aug=True,
        hflip_prob=augment.flip_probability if augment.flip == "horizontal" else 0.0,
        transform=turboloader.Normalize(mean, std),
    )
    number = 0

    def epoch() -> Iterator[tuple[Tensor, Tensor]]:
        nonlocal number
        loader.set_epoch(number)
        number += 1
        for images, about in loader:
            indices = torch.as_tensor(about["indices"])
            batch = torch.from_numpy(images), labels[indices]
            yield (
                batch[0].to(work.device, non_blocking=True),
                batch[1].to(work.device, non_blocking=True),
            )

    yield endless(epoch)


def _tar(work: Work, beton: object) -> Path:
    """The JPEGs of the work in a tar file, in the order of the beton, beside their folder."""
    from slipform.pipelines.beton import Beton
    from slipform.pipelines.files import replacing

    assert isinstance(beton, Beton)
    path = Path(f"{work.files}.tar")
    if not path.is_file():
        with replacing(path) as temporary, tarfile.open(temporary, "w") as tar:
            for index in range(len(beton)):
                content = beton.bytes_of(index).tobytes()
                member = tarfile.TarInfo(f"{index:07d}.jpg")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return path
