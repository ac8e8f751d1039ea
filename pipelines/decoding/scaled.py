"""Regions of JPEGs decoded at 1/2, 1/4 or 1/8 of their size.

In: the bytes of a JPEG, a region, and a scale. Out: RGB pixels, or None if neither decoder here can
decode it. `jpeg_scan` decodes baseline JPEGs, the kind that cameras write, and only the region.
OpenCV decodes the others, such as progressive ones, and always the whole image.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from slipform.pipelines.decoding.jpeg_entries import read_entries
from slipform.pipelines.decoding.jpeg_file import read_header
from slipform.pipelines.decoding.jpeg_layout import read_layout
from slipform.pipelines.decoding.jpeg_scan import decode_region

__all__ = ["SCALES", "Reduced", "decode_scaled"]

SCALES = (2, 4, 8)
_FLAGS = {
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}


class Reduced(NamedTuple):
    """A part of an image at a fraction of its size.

    Attributes:
        pixels: uint8 [H, W, 3] RGB.
        origin: The point (x, y) of the image where the part begins, in pixels of the image.
    """

    pixels: npt.NDArray[np.uint8]
    origin: tuple[int, int]


def decode_scaled(
    jpeg: npt.NDArray[np.uint8],
    scale: int,
    region: tuple[int, int, int, int],
    after: npt.NDArray[np.uint8] | None = None,
) -> Reduced | None:
    """Decode a region of a JPEG at a fraction of its size.

    Args:
        jpeg: The stream, uint8 [bytes].
        scale: One of SCALES.
        region: (x0, y0, x1, y1) in pixels of the image, not empty.
        after: What follows the JPEG in its file: its entry points, or anything else. None: it has
            no entry points.

    Returns:
        The region, or a larger part. None if the stream is damaged or truncated, is smaller than
        the region, has four color components, or has an EXIF rotation. The caller then uses the
        ordinary decoder.
    """
    try:
        header = read_header(jpeg.data)
    except ValueError:
        return None
    if header.convert or header.width < region[2] or header.height < region[3]:
        return None
    # libjpeg completes a truncated stream and only warns. cv2 does not pass the warning on.
    if not _has_end(jpeg, header.scan):
        return None
    layout = read_layout(jpeg)
    if layout is None or layout.outputs(scale).max() > 8:
        return _decode_whole(jpeg, scale, header.width, header.height)
    entries = None if after is None else read_entries(after, len(jpeg), layout)
    found = decode_region(jpeg, layout, region, scale, entries)
    return None if found is None else Reduced(*found)


def _has_end(jpeg: npt.NDArray[np.uint8], scan: int) -> bool:
    """Whether the image has an end. Phones append videos and other data to their photos."""
    is_last = jpeg[-2] == 0xFF and jpeg[-1] == 0xD9
    return bool(is_last) or jpeg[scan:].tobytes().rfind(b"\xff\xd9") >= 0


def _decode_whole(
    jpeg: npt.NDArray[np.uint8], scale: int, width: int, height: int
) -> Reduced | None:
    """Decode the whole image with OpenCV."""
    try:
        pixels: Any = cv2.imdecode(jpeg, _FLAGS[scale] | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        return None
    if pixels is None or pixels.shape != (-(-height // scale), -(-width // scale), 3):
        return None
    cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels)
    return Reduced(pixels, (0, 0))
