"""The decoder of image files. `prep` and `predict` use it, so both see the same pixels.

In: the bytes of an image file. Out: `DecodedImage`: 8-bit gray or RGB pixels, and the conversions
that were needed. The rules:

- several frames: the first one is taken;
- EXIF orientation: the image is turned upright;
- transparency: the image is composited over white;
- palette, CMYK, one bit: Pillow converts to RGB or gray. Color profiles are ignored;
- 16 bits per channel, and int32 within 0..65535: the upper 8 of the lowest `bits` bits are taken;
- float within 0..1: multiplied by 255 and rounded. Other floats are refused.

libjpeg-turbo decodes plain JPEGs. It gives the same pixels as the decoders of training.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, ImageOps, UnidentifiedImageError

from slipform.pipelines.decoding.image_file import FORMATS, looks_like_image, read_head
from slipform.pipelines.decoding.jpeg_file import ORIENTATION_TAG, is_jpeg, read_header
from slipform.pipelines.decoding.sixteen_bit import (
    from_wide,
    has_wide_color,
    min_is_white,
    notice_range,
    read_wide_color,
)

__all__ = [
    "MAX_PIXELS",
    "DecodedImage",
    "PixelArray",
    "check_size",
    "decode",
    "from_pillow",
    "quiet_decoders",
    "read_size",
    "resize",
]

PixelArray = npt.NDArray[np.uint8]  # [H, W] gray or [H, W, 3] RGB

# Larger images are refused before memory is allocated: a file of a few hundred bytes can declare
# 4 gigapixels. This is Pillow's own limit.
MAX_PIXELS = 89_478_485
_MAX_SIDE = 65_535  # a beton stores sizes in 16 bits

# A block of 64 pixels takes at least one bit in the first scan of a JPEG.
_MAX_PIXELS_PER_JPEG_BYTE = 512


@dataclass(frozen=True)
class DecodedImage:
    """The pixels of one image file.

    Attributes:
        pixels: uint8, [H, W] if the file is gray, else [H, W, 3] RGB.
        converted: The conversions that the file needed: ("not a jpeg", "exif rotation"), ...
        damage: The warning of libjpeg about a JPEG that it decoded all the same. "": no warning.
    """

    pixels: PixelArray
    converted: tuple[str, ...] = ()
    damage: str = ""

    @property
    def rgb(self) -> PixelArray:
        """The pixels as contiguous uint8 [H, W, 3]."""
        gray = self.pixels.ndim == 2
        return np.ascontiguousarray(
            np.repeat(self.pixels[..., None], 3, axis=2) if gray else self.pixels
        )


def check_size(width: int, height: int) -> None:
    """Refuse an image that is too large to decode.

    Args:
        width: Width in pixels.
        height: Height in pixels.

    Raises:
        ValueError: It has no pixels, or more than MAX_PIXELS, or a side above 65,535.
    """
    if width < 1 or height < 1:
        raise ValueError(f"{width} x {height} px: no pixels")
    if width * height > MAX_PIXELS or max(width, height) > _MAX_SIDE:
        raise ValueError(
            f"{width} x {height} px is too large: the limits are {MAX_PIXELS:,} px in all and"
            f" {_MAX_SIDE:,} px a side"
        )


def decode(data: bytes, bits: int = 16) -> DecodedImage:
    """Decode one image file by the rules of this module.

    Args:
        data: All bytes of the file.
        bits: How many of the 16 bits in PNG and TIFF files are used, 8 to 16. Cameras and
            microscopes use 10 or 12.

    Returns:
        The pixels, the conversions, and the damage.

    Raises:
        ValueError: The file is not of FORMATS, too large or damaged, or its value of white is
            unknown.
    """
    if not is_jpeg(data):
        return _by_pillow(data, bits)
    header = read_header(data)
    check_size(header.width, header.height)
    if header.width * header.height > _MAX_PIXELS_PER_JPEG_BYTE * len(data):
        raise ValueError(
            f"broken JPEG: {len(data):,} bytes cannot hold {header.width} x {header.height} px"
        )
    if header.convert:
        decoded = _by_pillow(data, bits)
        added = tuple(reason for reason in header.convert if reason not in decoded.converted)
        return DecodedImage(decoded.pixels, decoded.converted + added, decoded.damage)
    decoded = _plain_jpeg(data)
    if decoded.pixels.shape[:2] != (header.height, header.width):
        raise ValueError(
            f"broken JPEG: it does not hold the {header.width} x {header.height} px of its header"
        )
    return decoded


def from_pillow(image: Image.Image, bits: int = 16) -> DecodedImage:
    """Convert an image that Pillow has opened, by the rules of this module.

    Args:
        image: An image of any mode.
        bits: As for `decode`. It has no effect on 16-bit color, which Pillow reduces to 8 bits.

    Returns:
        The pixels, and the conversions.

    Raises:
        ValueError: The image is too large, cannot be loaded, or its value of white is unknown.
    """
    changed: list[str] = []
    check_size(*image.size)
    try:
        return DecodedImage(_eight_bit(image, bits, changed), tuple(changed))
    except Exception as error:  # as in _by_pillow
        raise ValueError(f"undecodable image: {error}") from None


def read_size(path: str | Path) -> tuple[int, int] | None:
    """Read the size of an image file from its header.

    Args:
        path: The file.

    Returns:
        Width and height in pixels. None: it is not an image, or its size cannot be read.
    """
    try:
        if not looks_like_image(read_head(path)):
            return None
        with quiet_decoders(), Image.open(path, formats=tuple(FORMATS)) as image:
            return image.size
    except Exception:  # as in _by_pillow
        return None


def resize(pixels: PixelArray, shorter_side: int | None, max_side: int | None) -> PixelArray:
    """Reduce an image. It is never enlarged.

    The filter is Pillow's antialiased triangle filter, as in torchvision's Resize.

    Args:
        pixels: uint8 [H, W] or [H, W, 3].
        shorter_side: Largest allowed shorter side in pixels. None: no limit.
        max_side: Largest allowed longer side in pixels. None: no limit.

    Returns:
        uint8 [H', W'] or [H', W', 3]. `pixels` itself if it is small enough.
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


@contextmanager
def quiet_decoders() -> Iterator[None]:
    """Within the block, Pillow shows no warnings, and raises for a decompression bomb.

    This holds for the whole process. Enter the block before threads start.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def _plain_jpeg(data: bytes) -> DecodedImage:
    """Decode a gray or RGB JPEG that needs no conversion."""
    try:
        gray = simplejpeg.decode_jpeg_header(data, strict=False)[2] == "Gray"
    except (KeyError, ValueError):  # KeyError: a color space without a name
        raise ValueError("undecodable JPEG: its header is damaged") from None
    try:
        pixels = simplejpeg.decode_jpeg(data, "GRAY" if gray else "RGB", strict=True)
        return DecodedImage(pixels[..., 0] if gray else pixels)
    except ValueError as error:
        damage = str(error)
    # libjpeg only warns about some damage and goes on. The decoders of training do the same. Pillow
    # also goes on, but it refuses a truncated file.
    try:
        return DecodedImage(_by_pillow(data, 16).pixels, damage=damage)
    except ValueError:
        raise ValueError(f"undecodable JPEG: {damage}") from None


def _by_pillow(data: bytes, bits: int) -> DecodedImage:
    """Decode a file with Pillow, by the rules of this module."""
    try:
        with Image.open(io.BytesIO(data), formats=tuple(FORMATS)) as image:
            check_size(*image.size)
            # Pillow removes `tile`, which this reads, when it loads the pixels.
            wide_color = has_wide_color(image)
            jpeg = image.format in ("JPEG", "MPO")
            changed = [] if jpeg else ["not a jpeg"]
            if not jpeg and getattr(image, "is_animated", False):
                changed.append("several frames")
            if image.getexif().get(ORIENTATION_TAG, 1) in range(2, 9):
                changed.append("exif rotation")
            if wide_color:
                changed.append("16 bit")
            narrow = wide_color and bits < 16
            first = read_wide_color(data, bits, image.getexif()) if narrow else image
            pixels = _eight_bit(first, bits, changed)
            if wide_color and bits == 16:
                notice_range(int(pixels.max()) * 256 + 255, changed)
            return DecodedImage(pixels, tuple(changed))
    except UnidentifiedImageError:
        raise ValueError(f"not an image of a supported format ({', '.join(FORMATS)})") from None
    # Pillow's decoders raise many classes of exceptions for damaged files.
    except Exception as error:
        raise ValueError(f"undecodable image: {error}") from None


def _eight_bit(image: Image.Image, bits: int, changed: list[str]) -> PixelArray:
    """The first frame as uint8 [H, W] or [H, W, 3]. Appends the conversions to `changed`."""
    kind, inverted = image.format, min_is_white(image)
    # Files of the other formats say how many bits they use, and Pillow scales accordingly.
    free_range = kind in ("PNG", "TIFF", None)
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        changed.append("16 bit")
        wide = np.asarray(image).astype(np.int64)
        if inverted:
            wide = (1 << bits) - 1 - wide
        return from_wide(wide, bits if free_range else 16, changed if free_range else [])
    if image.mode == "F":
        changed.append("float")
        values = np.asarray(image, np.float64)
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            raise ValueError("float pixels outside 0 to 1: the value of white is unknown")
        return np.rint((1 - values if inverted else values) * 255).astype(np.uint8)
    if image.mode in ("P", "PA"):
        changed.append("palette")
    if image.has_transparency_data:
        changed.append("alpha")
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode == "CMYK":
        changed.append("cmyk")
    return np.array(image.convert("L" if image.mode in ("L", "1") else "RGB"))
