"""TurboLoader: a pool of C++ threads that decodes, crops and normalizes in one pass.

It reads the same JPEGs from a tar file and decodes only the part of an image that the random crop
needs (`train_aug`). Raw pixels are read from its decoded format, .tbl. This holds squares of one
size, so all images are reduced to 256 x 256 px: fewer pixels than the other loaders read.
"""

from __future__ import annotations

import importlib
import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from slipform.bench.peers import endless, grid
from slipform.bench.result.result import Settings
from slipform.bench.work import Work

__all__ = ["batches", "candidates", "reason_not"]

_TBL_SIDE = 256  # px


def reason_not(work: Work) -> str:
    """See `Peer`."""
    importlib.import_module("turboloader")
    augment, decoded = work.augment, work.stored == "raw"
    if augment.crop != "random_resized":
        return f'no counterpart of crop = "{augment.crop}"'
    usual = (augment.scale, augment.ratio) == ((0.08, 1.0), (3 / 4, 4 / 3))
    if not decoded and not usual:
        return "its random crops of JPEGs have torchvision's scale and ratio only"
    if augment.color_jitter:
        return "its fused pass has no color jitter"
    if work.dtype != "float32" and not (decoded and work.dtype == "float16"):
        return f"gives no {work.dtype} from {'.tbl' if decoded else 'tar'} files"
    return ""


def candidates(work: Work) -> list[Settings]:
    """See `Peer`. Its pool takes all cores by itself."""
    if work.stored == "raw":
        return grid(queue=[4, 2], channels_last=[True, False])
    return grid(queue=[4, 2])


@contextmanager
def batches(work: Work, settings: Settings) -> Iterator[Iterator[tuple[Tensor, Tensor]]]:
    """See `Peer`."""
    import torch

    torch.set_num_threads(1)  # its own threads use all cores
    beton = work.open()
    labels = torch.from_numpy(beton.labels.copy())
    loader = _over_tbl(work, settings) if work.stored == "raw" else _over_tar(work, settings)
    number, nhwc = 0, bool(settings.get("channels_last"))

    def epoch() -> Iterator[tuple[Tensor, Tensor]]:
        nonlocal number
        loader.set_epoch(number)
        number += 1
        for images, about in loader:
            found = torch.from_numpy(images)
            yield (
                (found.permute(0, 3, 1, 2) if nhwc else found).to(work.device, non_blocking=True),
                labels[torch.as_tensor(about["indices"])].to(work.device, non_blocking=True),
            )

    yield endless(epoch)


def _over_tar(work: Work, settings: Settings) -> Any:
    import turboloader

    augment = work.augment
    return turboloader.DataLoader(
        str(_tar(work)),
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
        transform=turboloader.Normalize(*work.mean_std),
    )


def _over_tbl(work: Work, settings: Settings) -> Any:
    import turboloader

    augment, (mean, std) = work.augment, work.mean_std
    return turboloader.TblRawImageLoader(
        str(_tbl(work)),
        batch_size=work.batch_size,
        mean=mean,
        std=std,
        shuffle=True,
        drop_last=True,
        prefetch_batches=int(settings["queue"] or 4),
        train_aug=True,
        scale=augment.scale,
        ratio=augment.ratio,
        image_size=augment.image_size,
        hflip_prob=augment.flip_probability if augment.flip == "horizontal" else 0.0,
        dtype=work.dtype,
        channels_last=bool(settings.get("channels_last")),
    )


def _tar(work: Work) -> Path:
    """The JPEGs of the work in a tar file, in the order of the beton, beside their folder."""
    from slipform.pipelines.files import replacing

    path = Path(f"{work.files}.tar")
    if not path.is_file():
        beton = work.open()
        with replacing(path) as temporary, tarfile.open(temporary, "w") as tar:
            for index in range(len(beton)):
                content = beton.bytes_of(index).tobytes()
                member = tarfile.TarInfo(f"{index:07d}.jpg")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return path


def _tbl(work: Work) -> Path:
    """The images of the work in a .tbl file, in the order of the beton, in the cache folder."""
    import cv2
    import turboloader

    from slipform.pipelines.files import replacing
    from slipform.pipelines.machine import cache_folder
    from slipform.pipelines.manifest import read_manifest

    sha256 = read_manifest(Path(work.folder)).split(work.split).sha256
    path = cache_folder() / "tbl" / f"{sha256[:20]}.{_TBL_SIDE}.tbl"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file():
        beton, sides = work.open(), (_TBL_SIDE, _TBL_SIDE)
        with replacing(path) as temporary:
            writer = turboloader.TblWriterV2(str(temporary), enable_compression=False)
            for index in range(len(beton)):
                pixels = cv2.resize(beton.raw(index), sides, interpolation=cv2.INTER_AREA)
                writer.add_sample(
                    pixels.tobytes(), turboloader.SampleFormat.RAW_U8, width=_TBL_SIDE,
                    height=_TBL_SIDE,
                )  # fmt: skip
            writer.finalize()
    return path
