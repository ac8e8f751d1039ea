"""Samples -> stored bytes, a chunk at a time, in a worker thread.

In: a range of a split's samples, and the `Encoding`. Out: `Chunk`: the bytes of the samples, what
the tables of the beton say about each, the sums of pixels, and the rejected samples with reasons.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from slipform.pipelines.beton_format import JPG, RAW
from slipform.pipelines.decoding.any_image import (
    DecodedImage,
    PixelArray,
    check_size,
    decode,
    resize,
)
from slipform.pipelines.decoding.jpeg_file import is_jpeg, read_header
from slipform.pipelines.decoding.jpeg_scan import is_sound
from slipform.pipelines.errors import ConfigError, unknown
from slipform.preprocess.pixel_sums import PixelSums
from slipform.preprocess.read_sample import read_sample
from slipform.preprocess.source import Arrays, Samples

__all__ = ["KEEP", "Chunk", "Encoding", "Rejected", "Stored", "encode", "encode_chunk"]


@dataclass(frozen=True)
class Encoding:
    """How samples are stored.

    Attributes:
        mode: "keep": the bytes of JPEGs are stored unchanged if possible, other image files are
            encoded as JPEG, and arrays are stored as raw pixels. "jpeg": all images are encoded
            again. "raw": all images are stored as raw pixels.
        quality: Quality of images that are encoded as JPEG, 1 to 100.
        shorter_side: Images are reduced until their shorter side has at most this many pixels.
            None: no limit.
        max_side: The same for the longer side.
        check: Whether images that are stored unchanged are checked by reading all of their codes.
        bits: How many of the 16 bits in PNG and TIFF files are used, 8 to 16.
        strict: Whether JPEGs are rejected whose decoder only warns about damage.

    Raises:
        ConfigError: A value is not allowed.
    """

    mode: str = "keep"
    quality: int = 95
    shorter_side: int | None = None
    max_side: int | None = None
    check: bool = True
    bits: int = 16
    strict: bool = False

    def __post_init__(self) -> None:
        if self.mode not in (modes := ("keep", "jpeg", "raw")):
            raise unknown("encoding", self.mode, modes)
        sides = (1, 65_535)
        limits = {"quality": (1, 100), "shorter_side": sides, "max_side": sides, "bits": (8, 16)}
        for name, (lowest, highest) in limits.items():
            value = getattr(self, name)
            if value is not None and not lowest <= value <= highest:
                raise ConfigError(f"{name} = {value}: give {lowest} to {highest}.")

    def fits(self, width: int, height: int) -> bool:
        """Whether an image needs no reduction.

        Args:
            width: Width in pixels.
            height: Height in pixels.
        """
        shorter, longer = min(width, height), max(width, height)
        return shorter <= (self.shorter_side or shorter) and longer <= (self.max_side or longer)


KEEP = Encoding()


@dataclass(frozen=True)
class Rejected:
    """A sample that cannot be stored, or that is damaged.

    Attributes:
        index: Position in the source's split.
        label: Its label.
        name: Its name, see `Samples.name`.
        reason: What is wrong with it, in words.
    """

    index: int
    label: int
    name: str
    reason: str


@dataclass
class Chunk:
    """The result of a worker. All sequences have one entry per accepted sample.

    Attributes:
        data: The bytes of the samples, without gaps.
        labels: int64 [N].
        names: Names of the samples, see `Samples.name`.
        sizes: Bytes of each sample.
        crc32: CRC-32 of each sample.
        widths, heights: Sizes of the images in pixels.
        modes: JPG or RAW.
        num_read: Number of samples, including the rejected ones.
        pixel_sums: For mean and standard deviation.
        converted: Number of converted images by reason.
        rejected: The samples that were not stored.
        damaged: The samples that were stored although their decoder warns.
    """

    data: bytes | memoryview
    labels: npt.NDArray[np.int64]
    names: list[str]
    sizes: list[int]
    crc32: list[int]
    widths: list[int]
    heights: list[int]
    modes: list[int]
    num_read: int
    pixel_sums: PixelSums
    converted: Counter[str]
    rejected: list[Rejected]
    damaged: list[Rejected]


class Stored(NamedTuple):
    """One sample as it is stored.

    Attributes:
        data: Its bytes: a JPEG, or raw pixels.
        width, height: Size in pixels.
        mode: JPG or RAW.
        pixels: The decoded pixels. None: no pixels were made.
        converted: The conversions.
        damage: The warning of the decoder. "": no warning.
    """

    data: bytes | memoryview
    width: int
    height: int
    mode: int
    pixels: PixelArray | None
    converted: tuple[str, ...] = ()
    damage: str = ""


def encode_chunk(
    samples: Samples,
    start: int,
    stop: int,
    encoding: Encoding,
    sum_every: int,
    cancelled: Callable[[], bool],
) -> Chunk:
    """Encode consecutive samples.

    Args:
        samples: The samples of a split.
        start: Position of the first one.
        stop: Position after the last one.
        encoding: How they are stored.
        sum_every: The pixels of every n-th sample are added to the sums. 0: of none.
        cancelled: Called before each sample. True ends the work.

    Returns:
        The encoded samples.

    Raises:
        OSError: A file vanished, or the disk fails.
    """
    if isinstance(samples, Arrays) and encoding.mode != "jpeg" and encoding.fits(*samples.size):
        return _block(samples, start, stop, sum_every)
    parts, labels, names = list[Stored](), list[int](), list[str]()
    sums, rejected, damaged = PixelSums(), [], []
    for index in range(start, stop):
        if cancelled():
            break
        summed = sum_every > 0 and index % sum_every == 0
        label = int(samples.labels[index])
        try:
            stored = encode(read_sample(samples, index), encoding, summed)
        except ValueError as error:
            rejected.append(Rejected(index, label, samples.name(index), str(error)))
            continue
        if stored.damage:
            damaged.append(Rejected(index, label, samples.name(index), stored.damage))
        if summed and stored.pixels is not None:
            sums.add_pixels(stored.pixels)
        # The pixels are not kept: they are many times larger than the bytes.
        parts.append(stored._replace(pixels=None) if stored.pixels is not None else stored)
        labels.append(label)
        names.append(samples.name(index))
    return Chunk(
        data=b"".join(part.data for part in parts),
        labels=np.array(labels, np.int64),
        names=names,
        sizes=[len(part.data) for part in parts],
        crc32=[zlib.crc32(part.data) for part in parts],
        widths=[part.width for part in parts],
        heights=[part.height for part in parts],
        modes=[part.mode for part in parts],
        num_read=stop - start,
        pixel_sums=sums,
        converted=Counter(reason for part in parts for reason in part.converted),
        rejected=rejected,
        damaged=damaged,
    )


def encode(content: bytes | PixelArray, encoding: Encoding, decoded: bool) -> Stored:
    """Encode one sample.

    `is_sound` checks a JPEG that is stored unchanged. A JPEG that does not pass is decoded.

    Args:
        content: The bytes of an image file, or pixels uint8 [H, W] gray or [H, W, 3] RGB.
        encoding: How it is stored.
        decoded: Whether its pixels are needed even if its bytes are stored unchanged.

    Returns:
        Its bytes, size and mode.

    Raises:
        ValueError: It is not an image, damaged, too large, or rejected by `encoding`.
    """
    changed, damage = list[str](), ""
    if not isinstance(content, bytes):
        pixels = content
    else:
        keep = False
        if encoding.mode == "keep" and is_jpeg(content):
            header = read_header(content)
            check_size(header.width, header.height)
            keep = not header.convert and encoding.fits(header.width, header.height)
            if keep and not decoded and (not encoding.check or is_sound(content)):
                return Stored(content, header.width, header.height, JPG, None)
        image = decode(content, encoding.bits)
        pixels, changed, damage = image.pixels, [*image.converted], image.damage
        if damage and encoding.strict:
            raise ValueError(f"damaged JPEG: {damage}")
        if keep:
            return Stored(content, header.width, header.height, JPG, pixels, (), damage)
    if not encoding.fits(pixels.shape[1], pixels.shape[0]):
        pixels = resize(pixels, encoding.shorter_side, encoding.max_side)
        changed.append("resized")
    height, width = pixels.shape[:2]
    if encoding.mode == "raw" or (encoding.mode == "keep" and not isinstance(content, bytes)):
        data: bytes | memoryview = DecodedImage(pixels).rgb.data.cast("B")
        mode = RAW
    else:
        data, mode = _encode_jpeg(pixels, encoding.quality), JPG
    return Stored(data, width, height, mode, pixels, tuple(changed), damage)


def _encode_jpeg(pixels: PixelArray, quality: int) -> bytes:
    """Encode a JPEG with 4:2:0 subsampling, as cameras do, or a gray one for gray pixels."""
    ordered = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".jpg", ordered, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done, "OpenCV encodes every 8-bit image"
    return data.tobytes()


def _block(samples: Arrays, start: int, stop: int, sum_every: int) -> Chunk:
    """Encode raw arrays of one size all at once, without a copy per sample."""
    block = samples.block(start, stop)
    num, height, width, _ = block.shape
    data = block.data.cast("B")
    size = height * width * 3
    sums = PixelSums()
    if sum_every:
        sums.add_pixels(block.reshape(num * height, width, 3))
    return Chunk(
        data=data,
        labels=samples.labels[start:stop],
        names=[samples.name(index) for index in range(start, stop)],
        sizes=[size] * num,
        crc32=[zlib.crc32(data[at : at + size]) for at in range(0, num * size, size)],
        widths=[width] * num,
        heights=[height] * num,
        modes=[RAW] * num,
        num_read=num,
        pixel_sums=sums,
        converted=Counter(),
        rejected=[],
        damaged=[],
    )
