"""Pixels from and to image files: what a person would see in a viewer, as 8-bit gray or RGB.

In: bytes of any format Pillow reads, or of a plain JPEG. Out: uint8 [H, W] or [H, W, 3], and why
the file could not stay as it is. OpenCV decodes plain JPEGs (the same libjpeg-turbo as Pillow's and
the same pixels, 1.5 times as fast); Pillow everything else. Both release Python's global lock while
they work.
"""

from __future__ import annotations

import io

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from slipform.preprocess.source import Pixels

# More is refused before memory is asked for: a few hundred bytes can claim 4 gigapixels. Pillow's
# own limit.
MAX_PIXELS = 89_478_485
MAX_SIDE = 65_535  # a beton stores 16-bit sizes
ORIENTATION_TAG = 0x0112
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")


def check_size(width: int, height: int) -> None:
    """Raise ValueError for an image no one should decode."""
    if width < 1 or height < 1:
        raise ValueError(f"{width} x {height} px: no pixels")
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise ValueError(
            f"{width} x {height} px is more than the {MAX_PIXELS:,} px (sides to {MAX_SIDE:,}) that"
            " are read"
        )


def decode_jpeg(data: bytes) -> Pixels:
    """All pixels of a gray or RGB JPEG. Raises ValueError where the decoder cannot give every
    row."""
    try:
        pixels = cv2.imdecode(
            np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED
        )  # gray stays gray; the header told there is no rotation
    except cv2.error as error:
        raise ValueError(f"undecodable JPEG: {error.err or error}") from None
    if pixels is None:
        raise ValueError("undecodable JPEG: cut short or damaged")
    return pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels)


def decode_any(data: bytes) -> tuple[Pixels, list[str]]:
    """Pixels as a viewer shows them (first frame, upright, over white), and what had to be changed.
    Raises ValueError."""
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            check_size(*image.size)
            changed = [] if image.format in ("JPEG", "MPO") else ["not a jpeg"]
            if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
                changed.append("animation")
            if image.getexif().get(ORIENTATION_TAG, 1) in range(2, 9):
                changed.append("exif rotation")
            return _eight_bit(ImageOps.exif_transpose(image), changed), changed
    except UnidentifiedImageError:
        raise ValueError(f"no image of a kind that is read ({', '.join(_FORMATS)})") from None
    # Pillow's decoders raise a dozen kinds for damaged files; every one means the same here
    except Exception as error:
        raise ValueError(f"undecodable image: {error}") from None


def _eight_bit(image: Image.Image, changed: list[str]) -> Pixels:
    if image.mode.startswith("I;16") or image.mode == "I":
        changed.append("16 bit")
        wide = np.asarray(image).astype(np.int64)
        if wide.min() < 0 or wide.max() > 65_535:
            raise ValueError("pixels beyond 16 bit have no agreed brightness")
        return (wide >> 8).astype(
            np.uint8
        )  # Pillow's own convert() clips at 255 instead of scaling
    if image.mode == "F":
        raise ValueError("float pixels have no agreed brightness")
    if image.mode in ("P", "PA"):
        changed.append("palette")
    if image.has_transparency_data:
        changed.append("alpha")
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode == "CMYK":
        changed.append("cmyk")
    return np.array(image.convert("L" if image.mode in ("L", "1") else "RGB"))


def resize(pixels: Pixels, shorter_side: int | None, max_side: int | None) -> Pixels:
    """Reduce so that the shorter side is at most `shorter_side` and the longer at most `max_side`
    px; never enlarge.

    Pillow's triangle filter, widened where it reduces (antialiased), as torchvision's Resize does
    it.
    """
    height, width = pixels.shape[:2]
    scale = min(
        1.0,
        (shorter_side or height) / min(height, width) if shorter_side else 1.0,
        max_side / max(height, width) if max_side else 1.0,
    )
    if scale == 1.0:
        return pixels
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))


def encode_jpeg(pixels: Pixels, quality: int) -> bytes:
    """JPEG bytes, 4:2:0 like a camera's; gray pixels as a gray JPEG."""
    ordered = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".jpg", ordered, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done, "OpenCV encodes every 8-bit image"
    return data.tobytes()
