"""Images of any kind -> batches for a net, as evaluation sees them.

In: paths, PIL images, arrays. Out: tensors [N, 3, S, S], made by the Plan of evaluation and the
loader's own resampling code. A batch holds few large images or many small ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import torch
from torch import Tensor

from slipform.pipelines.decoding.any_image import (
    DecodedImage,
    decode,
    from_pillow,
    quiet_decoders,
    resize,
)
from slipform.pipelines.decoding.image_file import ENDINGS, read_bytes
from slipform.pipelines.decoding.pixels import Pixels
from slipform.pipelines.errors import SlipformError
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.plan.plan import draw
from slipform.pipelines.rendering.pool import RenderPool
from slipform.pipelines.rendering.request import Settings

UInt8 = npt.NDArray[np.uint8]
Image = str | Path | PIL.Image.Image | npt.NDArray[Any]

BATCH_SIZE = 64
_BATCH_BYTES = 128 << 20  # decoded pixels held at once; one image may be larger


@dataclass(frozen=True)
class Prediction:
    """What the model says about one image.

    Attributes:
        index: The image's position among those given.
        path: Its file, or None for an image in memory.
        classes: (name, probability), the most probable first; empty after an error.
        error: Why the image could not be read; empty otherwise.

    Example:
        ```python
        import slipform as sf

        (prediction,) = sf.Classifier.load("runs/first", device="cpu").predict("cat.jpg", top=2)
        (name, probability), second = prediction.classes
        ```
    """

    index: int
    path: Path | None
    classes: tuple[tuple[str, float], ...] = ()
    error: str = ""


@dataclass(frozen=True)
class ImageBatch:
    """Some of the images given.

    errors: (position, why it cannot be read, or ""), for each image in order. tensor: [N, 3, S, S]
    of the N readable ones, or None for none; valid until the next batch.
    """

    errors: tuple[tuple[int, str], ...]
    tensor: Tensor | None


def find_images(paths: Sequence[Path]) -> list[Path]:
    """The files named, and those with an image's ending in the folders named, sorted.

    Args:
        paths: Files and folders; folders are searched at any depth.

    Returns:
        Image files. Those named by themselves are not looked at yet.

    Raises:
        SlipformError: A folder holds no file with an ending of `image_file.ENDINGS`.
    """
    found: list[Path] = []
    for path in paths:
        inside = (
            sorted(p for p in path.rglob("*") if p.suffix.lower() in ENDINGS and p.is_file())
            if path.is_dir()
            else [path]
        )
        if not inside:
            raise SlipformError(f"{path} holds no images ({', '.join(ENDINGS)})")
        found += inside
    return found


def as_list(images: Image | Sequence[Image]) -> Sequence[Image]:
    """One image as a list of one; an array [N, H, W, 3] as N arrays."""
    if isinstance(images, np.ndarray):
        return list(images) if images.ndim == 4 else [images]
    return [images] if isinstance(images, str | Path | PIL.Image.Image) else images


def read_pixels(image: Path | PIL.Image.Image, options: Mapping[str, Any]) -> UInt8:
    """An image as prep would store it, before any JPEG encoding.

    Args:
        image: A file of any format that prep reads, or what Pillow made of one.
        options: Those of the dataset's manifest; "bits", "shorter_side" and "max_side" matter.

    Returns:
        uint8 [H, W, 3], RGB.

    Raises:
        ValueError: It is no regular file, or no sound image.
        OSError: It does not exist, or the disk fails.
    """
    bits = _option(options, "bits") or 16
    with quiet_decoders():
        if isinstance(image, Path):
            pixels = decode(read_bytes(image), bits).pixels
        else:
            pixels = from_pillow(image, bits).pixels
    reduced = resize(pixels, _option(options, "shorter_side"), _option(options, "max_side"))
    return DecodedImage(reduced).rgb


def _option(options: Mapping[str, Any], name: str) -> int | None:
    """A whole number that prep was given; None where it was not given."""
    value = options.get(name)
    if value is None or (type(value) is int and 1 <= value <= 65_535):
        return value
    raise SlipformError(f'the dataset says {name} = "{value}", which is no size. Run prep again.')


def read_batches(
    images: Sequence[Image],
    spec: Augmentation,
    dtype: torch.dtype,
    device: torch.device,
    options: Mapping[str, Any],
) -> Iterator[ImageBatch]:
    """The images in order, in batches whose decoded pixels are bounded in bytes.

    Args:
        images: Paths, PIL images, or arrays uint8 [H, W, 3] or [H, W].
        spec: What evaluation does to an image, resolved.
        dtype: Of the tensors.
        device: Of the tensors.
        options: Those of the dataset's manifest, which say how prep read its files.
    """
    settings = Settings(spec, BATCH_SIZE, dtype, device, threads=torch.get_num_threads())
    pool = RenderPool(settings, 2)
    try:
        errors: list[tuple[int, str]] = []
        read: list[UInt8] = []
        for index, image in enumerate(images):
            pixels, error = _try_to_read(image, options)
            errors.append((index, error))
            if pixels is not None:
                read.append(pixels)
            full = len(errors) == BATCH_SIZE or sum(p.nbytes for p in read) >= _BATCH_BYTES
            if full or index + 1 == len(images):
                yield ImageBatch(tuple(errors), _render(read, pool, spec) if read else None)
                errors, read = [], []
    finally:
        pool.close()


def _try_to_read(image: Image, options: Mapping[str, Any]) -> tuple[UInt8 | None, str]:
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
        return read_pixels(Path(image) if isinstance(image, str) else image, options), ""
    except (ValueError, OSError) as error:
        return None, f"cannot be read as an image ({error})"


def _render(pictures: list[UInt8], pool: RenderPool, spec: Augmentation) -> Tensor:
    """Images in memory as the net takes them: [N, 3, S, S], by the Plan of evaluation."""
    heights = np.array([pixels.shape[0] for pixels in pictures], np.int32)
    widths = np.array([pixels.shape[1] for pixels in pictures], np.int32)
    plan = draw(spec, np.arange(len(pictures)), heights, widths, seed=0, epoch=0)
    addresses = np.array([pixels.ctypes.data for pixels in pictures], np.int64)
    pool.begin(plan, Pixels(addresses, heights, widths, owner=pictures))
    return pool.collect().images
