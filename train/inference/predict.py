"""Images of any kind -> batches for a net, prepared as in evaluation.

In: paths, PIL images, arrays. Out: tensors [N, 3, S, S], rendered by the Plan of evaluation and the
resampling code of the loader. A batch contains few large images or many small ones.
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
from slipform.pipelines.unclosed import close_when_freed

__all__ = [
    "BATCH_SIZE",
    "Image",
    "ImageBatch",
    "Prediction",
    "as_list",
    "find_images",
    "named_rows",
    "read_batches",
    "read_pixels",
]

Image = str | Path | PIL.Image.Image | npt.NDArray[Any]
_UInt8 = npt.NDArray[np.uint8]

BATCH_SIZE = 64
_BATCH_BYTES = 128 << 20  # of decoded pixels; one image may be larger


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of one image.

    Attributes:
        index: The position of the image among the given images.
        path: The path of the file; None for an image in memory.
        classes: (name, probability) pairs, the most probable class first; empty after an error.
        error: Why the image could not be read; "" if it was read.
        labels: Of a run whose images have several labels: the names of the classes whose
            probability is at least their threshold, in the order of the classes.

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
    labels: tuple[str, ...] = ()


_Row = tuple[tuple[tuple[str, float], ...], tuple[str, ...]]


def named_rows(
    logits: Tensor, classes: Sequence[str], top: int, thresholds: Sequence[float] | None
) -> Iterator[_Row]:
    """The classes and labels of a Prediction, for each image.

    Args:
        logits: float32 [N, C].
        classes: The names of the C classes.
        top: The number of classes for each image.
        thresholds: C thresholds, if images have several labels. None: an image has one label.

    Yields:
        `Prediction.classes` and `Prediction.labels`.
    """
    shares = logits.softmax(1) if thresholds is None else logits.double().sigmoid()
    best, places = shares.topk(min(top, len(classes)), dim=1)
    for row, names, values in zip(shares.tolist(), places.tolist(), best.tolist(), strict=True):
        found = tuple((classes[name], value) for name, value in zip(names, values, strict=True))
        own = zip(classes, row, thresholds or (), strict=False)
        yield found, tuple(name for name, share, limit in own if share >= limit)


@dataclass(frozen=True)
class ImageBatch:
    """A batch of the given images.

    Attributes:
        errors: For each image, in order: its position among the given images, and why it cannot be
            read, or "".
        tensor: The N images that could be read, [N, 3, S, S]; None if N is 0. Valid until the next
            batch is requested.
    """

    errors: tuple[tuple[int, str], ...]
    tensor: Tensor | None


def find_images(paths: Sequence[Path]) -> list[Path]:
    """Find image files: the given files, and the files in the given folders.

    Args:
        paths: Files and folders. Folders are searched at any depth for `image_file.ENDINGS`,
            without hidden files and folders, as by prep: macOS writes a ._x.jpg beside x.jpg.

    Returns:
        Paths of files, in the order of `paths`; those of a folder are sorted. The given files are
        not checked.

    Raises:
        SlipformError: A folder contains no image file.
    """
    found: list[Path] = []
    for path in paths:
        inside = (
            sorted(p for p in path.rglob("*") if _is_image(p, path)) if path.is_dir() else [path]
        )
        if not inside:
            raise SlipformError(f"{path} contains no images ({', '.join(ENDINGS)})")
        found += inside
    return found


def _is_image(path: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return path.suffix.lower() in ENDINGS and not hidden and path.is_file()


def as_list(images: Image | Sequence[Image]) -> Sequence[Image]:
    """Make a list of images.

    Args:
        images: One image or many; see `Classifier.predict`.

    Returns:
        One image as a list of one; an array [N, H, W, 3] as a list of N arrays.
    """
    if isinstance(images, np.ndarray):
        return list(images) if images.ndim == 4 else [images]
    return [images] if isinstance(images, str | Path | PIL.Image.Image) else images


def read_pixels(image: Path | PIL.Image.Image, options: Mapping[str, Any]) -> _UInt8:
    """Read an image as prep does, without JPEG encoding.

    Args:
        image: A file of any format that prep reads, or an image of Pillow.
        options: The options in the dataset's manifest; "bits", "shorter_side" and "max_side" are
            used.

    Returns:
        uint8 [H, W, 3], RGB.

    Raises:
        ValueError: It is no regular file, or no valid image.
        OSError: It does not exist, or it cannot be read.
        SlipformError: An option has a wrong value.
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
    """An option of prep that is an integer; None if it was not given."""
    value = options.get(name)
    if value is None or (type(value) is int and 1 <= value <= 65_535):
        return value
    raise SlipformError(f'the dataset has {name} = "{value}", which is no size. Run prep again.')


def read_batches(
    images: Sequence[Image],
    spec: Augmentation,
    dtype: torch.dtype,
    device: torch.device,
    options: Mapping[str, Any],
) -> Iterator[ImageBatch]:
    """Read images into batches. The memory of the decoded pixels in a batch is limited.

    Args:
        images: Paths, PIL images, or arrays uint8 [H, W, 3] or [H, W].
        spec: Size, crop and normalization of evaluation, resolved.
        dtype: The dtype of the tensors.
        device: The device of the tensors.
        options: The options of prep in the dataset's manifest; see `read_pixels`.

    Yields:
        The images in order.
    """
    renderer = _Renderer(spec, dtype, device)
    try:
        errors: list[tuple[int, str]] = []
        read: list[_UInt8] = []
        for index, image in enumerate(images):
            pixels, error = _try_to_read(image, options)
            errors.append((index, error))
            if pixels is not None:
                read.append(pixels)
            full = len(errors) == BATCH_SIZE or sum(p.nbytes for p in read) >= _BATCH_BYTES
            if full or index + 1 == len(images):
                yield ImageBatch(tuple(errors), renderer.images(read) if read else None)
                errors, read = [], []
    except Exception:
        renderer.close()
        raise
    # Not `finally`: a generator that was left is ended in whatever thread frees it, and a thread of
    # the renderer cannot wait for itself.
    renderer.close()


def _try_to_read(image: Image, options: Mapping[str, Any]) -> tuple[_UInt8 | None, str]:
    """The pixels, or None and the reason."""
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


class _Renderer:
    """Renders images in memory by the Plan of evaluation. It is closed when it is freed, too."""

    def __init__(self, spec: Augmentation, dtype: torch.dtype, device: torch.device) -> None:
        threads = torch.get_num_threads()
        self._spec = spec
        self._pool = RenderPool(Settings(spec, BATCH_SIZE, dtype, device, threads=threads), 2)
        self._unclosed = close_when_freed(self, self._pool.close)

    def images(self, pictures: list[_UInt8]) -> Tensor:
        """[N, 3, S, S], valid until the next call."""
        heights = np.array([pixels.shape[0] for pixels in pictures], np.int32)
        widths = np.array([pixels.shape[1] for pixels in pictures], np.int32)
        plan = draw(self._spec, np.arange(len(pictures)), heights, widths, seed=0, epoch=0)
        addresses = np.array([pixels.ctypes.data for pixels in pictures], np.int64)
        self._pool.begin(plan, Pixels(addresses, heights, widths, owner=pictures))
        return self._pool.collect().images

    def close(self) -> None:
        """End the threads."""
        self._pool.close()
        self._unclosed.detach()
