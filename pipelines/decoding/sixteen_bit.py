"""Image files with 16 bits per channel: conversion to 8 bits.

In: Pillow's image, or its values. Out: 8-bit pixels, and a note if the upper bits are unused. Such
an image would become nearly black.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from slipform.pipelines.decoding.jpeg_file import ORIENTATION_TAG

__all__ = ["from_wide", "has_wide_color", "min_is_white", "notice_range", "read_wide_color"]

_PHOTOMETRIC_TAG, _MIN_IS_WHITE = 262, 0


def from_wide(
    wide: npt.NDArray[np.integer], bits: int, changed: list[str]
) -> npt.NDArray[np.uint8]:
    """Reduce values to 8 bits.

    Args:
        wide: Values of any shape.
        bits: How many of the 16 bits are used, 8 to 16. The upper 8 of them are kept.
        changed: With bits = 16, `notice_range` appends a note to it.

    Returns:
        uint8, of the same shape.

    Raises:
        ValueError: A value is outside 0..65535, or needs more than `bits` bits.
    """
    lowest, highest = int(wide.min()), int(wide.max())
    if lowest < 0 or highest > 65_535:
        raise ValueError("pixels outside 0 to 65,535: the value of white is unknown")
    if highest >= 1 << bits:
        raise ValueError(f"a pixel of {highest:,} needs more than the {bits} bits that were given")
    if bits == 16:
        notice_range(highest, changed)
    return (wide >> (bits - 8)).astype(np.uint8)


def notice_range(highest: int, changed: list[str]) -> None:
    """Append a note if an image does not use the upper bits.

    Args:
        highest: The highest value of the image, 0..65535.
        changed: The conversions so far.
    """
    for used in (8, 10, 12):
        if highest < 1 << used:
            changed.append(f"only {used} of 16 bits used")
            return


def min_is_white(image: Image.Image) -> bool:
    """Whether 0 is white in a TIFF with one channel. Pillow inverts only those with 8 bits.

    Args:
        image: An opened image of any format.
    """
    tags = getattr(image, "tag_v2", None)
    return tags is not None and tags.get(_PHOTOMETRIC_TAG) == _MIN_IS_WHITE


def has_wide_color(image: Image.Image) -> bool:
    """Whether an image is a PNG or TIFF with several channels of 16 bits. Pillow keeps 8 of them.

    Args:
        image: An opened image. Its pixels must not be loaded yet: Pillow then removes `tile`.
    """
    tile: Any = getattr(image, "tile", None)
    return (
        image.format in ("PNG", "TIFF")
        and image.mode in ("RGB", "RGBA", "LA")
        and bool(tile)
        and "16" in str(tile[0][3])
    )


def read_wide_color(data: bytes, bits: int, exif: Image.Exif) -> Image.Image:
    """Read a 16-bit color image with OpenCV, which keeps all bits, and reduce it to 8 bits.

    Args:
        data: All bytes of the file.
        bits: How many of the 16 bits are used, 8 to 16.
        exif: The file's EXIF tags. The orientation is copied into the result.

    Returns:
        An RGB or RGBA image.

    Raises:
        ValueError: OpenCV cannot read it, or a value needs more than `bits` bits.
    """
    import cv2

    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16 or pixels.ndim != 3:
        raise ValueError("16-bit color that cannot be read in full")
    color = from_wide(pixels[..., 2::-1], bits, [])
    if pixels.shape[2] == 4:
        alpha = pixels[..., 3:]  # it often uses all 16 bits where the colors use fewer
        shift = 8 if int(alpha.max()) >> bits else bits - 8
        color = np.concatenate([color, (alpha >> shift).astype(np.uint8)], axis=2)
    image = Image.fromarray(color)
    image.getexif()[ORIENTATION_TAG] = exif.get(ORIENTATION_TAG, 1)
    return image
