"""Images of any kind -> batches for a net, as evaluation sees them.

In: paths, PIL images, arrays. Out: tensors [N, 3, S, S], made by the Plan of evaluation and the
loader's own resampling code. A batch holds few large images or many small ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import torch
from PIL import ImageOps
from torch import Tensor

from slipform.pipelines.errors import SlipformError
from slipform.pipelines.executors.contract import Settings
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.plan.plan import draw
from slipform.pipelines.rendering.pool import Pictures, RenderPool

Pixels = npt.NDArray[np.uint8]
Image = str | Path | PIL.Image.Image | npt.NDArray[Any]

BATCH_SIZE = 64
_BATCH_BYTES = 128 << 20  # decoded pixels held at once; one image may be larger


@dataclass(frozen=True)
class ImageBatch:
    """Some of the images given.

    errors: (position, why it cannot be read, or ""), for each image in order. tensor: [N, 3, S, S]
    of the N readable ones, or None for none; valid until the next batch.
    """

    errors: tuple[tuple[int, str], ...]
    tensor: Tensor | None


def find_images(paths: Sequence[Path]) -> list[Path]:
    """The files named, and those with an image's ending in the folders named, sorted. Raises
    SlipformError for none."""
    endings = PIL.Image.registered_extensions()
    found: list[Path] = []
    for path in paths:
        inside = (
            sorted(p for p in path.rglob("*") if p.suffix.lower() in endings and p.is_file())
            if path.is_dir()
            else [path]
        )
        if not inside:
            raise SlipformError(f"{path} holds no images")
        found += inside
    return found


def as_list(images: Image | Sequence[Image]) -> Sequence[Image]:
    """One image as a list of one; an array [N, H, W, 3] as N arrays."""
    if isinstance(images, np.ndarray):
        return list(images) if images.ndim == 4 else [images]
    return [images] if isinstance(images, str | Path | PIL.Image.Image) else images


def read_pixels(image: Path | PIL.Image.Image) -> Pixels:
    """uint8 [H, W, 3] as a viewer shows it: upright, first frame, transparency over white, 16 bits
    reduced to 8."""
    if isinstance(image, Path):
        with PIL.Image.open(image) as file:
            image = ImageOps.exif_transpose(file)
    if image.mode in ("I", "I;16", "I;16B", "F"):
        values = np.asarray(image, np.float64)
        image = PIL.Image.fromarray(
            np.clip(values / 257 if values.max(initial=0) > 255 else values, 0, 255)
            .round()
            .astype(np.uint8)
        )
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = PIL.Image.alpha_composite(PIL.Image.new("RGBA", image.size, "white"), image)
    return np.ascontiguousarray(image.convert("RGB"), np.uint8)


def read_batches(
    images: Sequence[Image], spec: Augmentation, dtype: torch.dtype, device: torch.device
) -> Iterator[ImageBatch]:
    """The images in order, in batches whose decoded pixels are bounded in bytes.

    Args:
        images: Paths, PIL images, or arrays uint8 [H, W, 3] or [H, W].
        spec: What evaluation does to an image, resolved.
        dtype: Of the tensors.
        device: Of the tensors.
    """
    settings = Settings(spec, BATCH_SIZE, dtype, device, threads=torch.get_num_threads())
    pool = RenderPool(settings, 2)
    try:
        errors: list[tuple[int, str]] = []
        read: list[Pixels] = []
        for index, image in enumerate(images):
            pixels, error = _try_to_read(image)
            errors.append((index, error))
            if pixels is not None:
                read.append(pixels)
            full = len(errors) == BATCH_SIZE or sum(p.nbytes for p in read) >= _BATCH_BYTES
            if full or index + 1 == len(images):
                yield ImageBatch(tuple(errors), _render(read, pool, spec) if read else None)
                errors, read = [], []
    finally:
        pool.close()


def _try_to_read(image: Image) -> tuple[Pixels | None, str]:
    """The pixels, or why there are none."""
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim not in (2, 3) or not image.size:
            return None, f"{image.dtype} {list(image.shape)}: give uint8 [H, W, 3] or [H, W]"
        if image.ndim == 2:
            image = np.repeat(image[..., None], 3, axis=2)
        if image.shape[2] != 3:
            return None, f"{image.dtype} {list(image.shape)}: give uint8 [H, W, 3] or [H, W]"
        return np.ascontiguousarray(image), ""
    try:
        return read_pixels(Path(image) if isinstance(image, str) else image), ""
    except Exception as error:  # Pillow's decoders raise a dozen kinds for damaged files
        return None, f"cannot be read as an image ({error})"


def _render(pictures: list[Pixels], pool: RenderPool, spec: Augmentation) -> Tensor:
    """Images in memory as the net takes them: [N, 3, S, S], by the Plan of evaluation."""
    heights = np.array([pixels.shape[0] for pixels in pictures], np.int32)
    widths = np.array([pixels.shape[1] for pixels in pictures], np.int32)
    plan = draw(spec, np.arange(len(pictures)), heights, widths, seed=0, epoch=0)
    addresses = np.array([pixels.ctypes.data for pixels in pictures], np.int64)
    pool.begin(plan, Pictures(addresses, heights, widths, owner=pictures))
    return pool.collect().images
