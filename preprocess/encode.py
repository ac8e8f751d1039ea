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

from slipform.pipelines.beton_format import JPG, RAW
from slipform.pipelines.decoding.any_image import (
    DecodedImage,
    PixelArray,
    check_size,
    decode,
    resize,
)
from slipform.pipelines.decoding.jpeg_entries import LARGE_PIXELS
from slipform.pipelines.decoding.jpeg_file import is_jpeg, read_header
from slipform.pipelines.decoding.jpeg_scan import find_entries, is_sound
from slipform.pipelines.errors import ConfigError, unknown
from slipform.preprocess.chunk import Chunk, Rejected
from slipform.preprocess.pixel_sums import PixelSums
from slipform.preprocess.read_sample import read_sample
from slipform.preprocess.source import Arrays, Samples

__all__ = ["KEEP", "Encoding", "Stored", "encode", "encode_chunk"]


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
        check: Whether all codes of JPEGs are read: to check those that are stored unchanged, and
            for the entry points of large ones (`jpeg_entries`).
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


class Stored(NamedTuple):
    """One sample as it is stored.

    Attributes:
        data: Its bytes: a JPEG, or raw pixels.
        width, height: Size in pixels.
        mode: JPG or RAW.
        pixels: The decoded pixels. None: no pixels were made.
        converted: The conversions.
        damage: The warning of the decoder. "": no warning.
        entries: The entry points of a large JPEG, as bytes. b"": none.
    """

    data: bytes | memoryview
    width: int
    height: int
    mode: int
    pixels: PixelArray | None
    converted: tuple[str, ...] = ()
    damage: str = ""
    entries: bytes = b""


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
        data=b"".join(one for part in parts for one in (part.data, part.entries)),
        labels=np.array(labels, np.int64),
        names=names,
        sizes=[len(part.data) for part in parts],
        entries=[len(part.entries) for part in parts],
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

    A JPEG that is stored unchanged is checked (`_checked`). One that does not pass is decoded.

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
            if keep and not decoded:
                same = Stored(content, header.width, header.height, JPG, None)
                checked = _checked(same) if encoding.check else same
                if checked is not None:
                    return checked
        image = decode(content, encoding.bits)
        pixels, changed, damage = image.pixels, [*image.converted], image.damage
        if damage and encoding.strict:
            raise ValueError(f"damaged JPEG: {damage}")
        if keep:
            same = Stored(content, header.width, header.height, JPG, pixels, (), damage)
            return _with_entries(same, encoding)
    if not encoding.fits(pixels.shape[1], pixels.shape[0]):
        pixels = resize(pixels, encoding.shorter_side, encoding.max_side)
        changed.append("resized")
    height, width = pixels.shape[:2]
    if encoding.mode == "raw" or (encoding.mode == "keep" and not isinstance(content, bytes)):
        data: bytes | memoryview = DecodedImage(pixels).rgb.data.cast("B")
        mode = RAW
    else:
        data, mode = _encode_jpeg(pixels, encoding.quality), JPG
    stored = Stored(data, width, height, mode, pixels, tuple(changed), damage)
    return _with_entries(stored, encoding)


def _checked(jpeg: Stored) -> Stored | None:
    """Read all codes of a JPEG.

    Returns:
        The same, with entry points if it is large. None: it is not sound (`is_sound`).
    """
    content = np.frombuffer(jpeg.data, np.uint8)
    if jpeg.width * jpeg.height < LARGE_PIXELS:
        return jpeg if is_sound(content) else None
    entries = find_entries(content)
    if entries is None:
        return None
    return jpeg._replace(entries=entries.packed(len(content)))


def _with_entries(stored: Stored, encoding: Encoding) -> Stored:
    """The same, with entry points if it is a large JPEG and sound."""
    if not encoding.check or stored.mode != JPG or stored.width * stored.height < LARGE_PIXELS:
        return stored
    return _checked(stored) or stored


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
        entries=[0] * num,
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
