"""Image files of 16 bits a channel: which of the bits carry the image.

In: Pillow's image, or its values. Out: 8-bit pixels, and a note where the upper bits are unused:
such an image would be nearly black.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from slipform.pipelines.decoding.jpeg_file import ORIENTATION_TAG

_PHOTOMETRIC_TAG, _MIN_IS_WHITE = 262, 0


def from_wide(
    wide: npt.NDArray[np.integer], bits: int, changed: list[str]
) -> npt.NDArray[np.uint8]:
    """Values of 0..65535, of which `bits` bits count, as 8 bits. Raises ValueError for others."""
    least, most = int(wide.min()), int(wide.max())
    if least < 0 or most > 65_535:
        raise ValueError("pixels outside 0 to 65,535 have no agreed brightness")
    if most >= 1 << bits:
        raise ValueError(f"a pixel of {most:,} needs more than the {bits} bits that were given")
    if bits == 16:
        notice_range(most, changed)
    return (wide >> (bits - 8)).astype(np.uint8)


def notice_range(most: int, changed: list[str]) -> None:
    """Append a note to `changed` where the brightest pixel, `most`, does not use the upper bits."""
    for used in (8, 10, 12):
        if most < 1 << used:
            changed.append(f"only {used} of 16 bits used")
            return


def min_is_white(image: Image.Image) -> bool:
    """Whether 0 is white in a TIFF with one channel; Pillow inverts only those of 8 bits."""
    tags = getattr(image, "tag_v2", None)
    return tags is not None and tags.get(_PHOTOMETRIC_TAG) == _MIN_IS_WHITE


def has_wide_color(image: Image.Image) -> bool:
    """Whether a PNG or TIFF has several channels of 16 bits, of which Pillow keeps 8.

    Ask before anything loads the pixels: a loaded image has forgotten its tiles.
    """
    tile: Any = getattr(image, "tile", None)
    return (
        image.format in ("PNG", "TIFF")
        and image.mode in ("RGB", "RGBA", "LA")
        and bool(tile)
        and "16" in str(tile[0][3])
    )


def read_wide_color(data: bytes, bits: int, exif: Image.Exif) -> Image.Image:
    """A 16-bit color image of which `bits` bits count, in 8 bits. OpenCV reads all 16."""
    import cv2

    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16 or pixels.ndim != 3:
        raise ValueError("16-bit color that cannot be read in full")
    color = from_wide(pixels[..., 2::-1], bits, [])
    if pixels.shape[2] == 4:
        alpha = pixels[..., 3:]  # often of all 16 bits where the colors are not
        shift = 8 if int(alpha.max()) >> bits else bits - 8
        color = np.concatenate([color, (alpha >> shift).astype(np.uint8)], axis=2)
    image = Image.fromarray(color)
    image.getexif()[ORIENTATION_TAG] = exif.get(ORIENTATION_TAG, 1)
    return image
