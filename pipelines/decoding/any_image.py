"""The one decoder of image files: what prep stores and what predict sees are the same pixels.

In: the bytes of an image file. Out: `DecodedImage`: 8-bit gray or RGB pixels as a viewer shows
them, and what had to be converted. The rules:

- several frames: the first one;
- EXIF orientation: upright;
- transparency: over white;
- palette, CMYK, one bit: RGB or gray as Pillow converts them; color profiles are ignored;
- 16 bits a channel, and int32 within 0..65535: the upper 8 bits, or those of `bits`;
- float within 0..1: times 255, rounded; other floats are refused, they have no agreed brightness.

Plain JPEGs are decoded by libjpeg-turbo, which gives the same pixels as the decoders of training.
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

Pixels = npt.NDArray[np.uint8]  # [H, W] gray or [H, W, 3] RGB

# More is refused before memory is asked for: a few hundred bytes can claim 4 gigapixels. Pillow's
# own limit.
MAX_PIXELS = 89_478_485
MAX_SIDE = 65_535  # a beton stores 16-bit sizes

# Every block of 64 pixels takes at least one bit in a JPEG's first scan.
_MOST_PIXELS_PER_JPEG_BYTE = 512


@dataclass(frozen=True)
class DecodedImage:
    """The pixels of one image file.

    Attributes:
        pixels: uint8, [H, W] where the file is gray, else [H, W, 3] RGB.
        converted: What the file needed beyond decoding: ("not a jpeg", "exif rotation"), ...
        damage: What libjpeg found wrong in a JPEG that it could decode in full; "" for a sound one.
    """

    pixels: Pixels
    converted: tuple[str, ...] = ()
    damage: str = ""

    @property
    def rgb(self) -> Pixels:
        """The pixels as contiguous uint8 [H, W, 3]."""
        gray = self.pixels.ndim == 2
        return np.ascontiguousarray(
            np.repeat(self.pixels[..., None], 3, axis=2) if gray else self.pixels
        )


def check_size(width: int, height: int) -> None:
    """Refuse an image that nobody should decode.

    Args:
        width: In pixels.
        height: In pixels.

    Raises:
        ValueError: It has no pixels, or more than MAX_PIXELS, or a side over MAX_SIDE.
    """
    if width < 1 or height < 1:
        raise ValueError(f"{width} x {height} px: no pixels")
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise ValueError(
            f"{width} x {height} px is more than the {MAX_PIXELS:,} px (sides to {MAX_SIDE:,}) that"
            " are read"
        )


def decode(data: bytes, bits: int = 16) -> DecodedImage:
    """Decode one image file by the rules above.

    Args:
        data: All bytes of the file.
        bits: How many bits of 16-bit PNG and TIFF files carry the image, 8 to 16. Cameras and
            microscopes write 10 or 12.

    Returns:
        Pixels, what was converted, and what was damaged.

    Raises:
        ValueError: It is no image of FORMATS, too large, damaged, or its pixels have no agreed
            brightness.
    """
    if not is_jpeg(data):
        return _by_pillow(data, bits)
    header = read_header(data)
    check_size(header.width, header.height)
    if header.width * header.height > _MOST_PIXELS_PER_JPEG_BYTE * len(data):
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
    """The same for an image that Pillow has opened.

    Args:
        image: Of any mode.
        bits: As for `decode`; 16-bit color is as Pillow has it, in 8 bits.

    Returns:
        Pixels, and what was converted.

    Raises:
        ValueError: It is too large, cannot be loaded, or its pixels have no agreed brightness.
    """
    changed: list[str] = []
    check_size(*image.size)
    try:
        return DecodedImage(_eight_bit(image, bits, changed), tuple(changed))
    except Exception as error:  # as in _by_pillow
        raise ValueError(f"undecodable image: {error}") from None


def read_size(path: str | Path) -> tuple[int, int] | None:
    """Width and height of an image file, from its header; None where it cannot be told."""
    try:
        if not looks_like_image(read_head(path)):
            return None
        with quiet_decoders(), Image.open(path, formats=tuple(FORMATS)) as image:
            return image.size
    except Exception:  # as in _by_pillow
        return None


def resize(pixels: Pixels, shorter_side: int | None, max_side: int | None) -> Pixels:
    """Reduce an image; never enlarge it.

    The filter is Pillow's triangle, widened where it reduces (antialiased), as torchvision's Resize
    has it.

    Args:
        pixels: uint8 [H, W] or [H, W, 3].
        shorter_side: Most pixels of the shorter side; None: no limit.
        max_side: Most pixels of the longer side; None: no limit.

    Returns:
        uint8 [H', W'] or [H', W', 3]; `pixels` itself where it is small enough.
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
    """Pillow's warnings are not shown within the block, except that of a bomb: an error. For the
    whole process, so enter it before threads start."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def _plain_jpeg(data: bytes) -> DecodedImage:
    """A gray or RGB JPEG that needs no conversion."""
    gray = simplejpeg.decode_jpeg_header(data, strict=False)[2] == "Gray"
    try:
        pixels = simplejpeg.decode_jpeg(data, "GRAY" if gray else "RGB", strict=True)
        return DecodedImage(pixels[..., 0] if gray else pixels)
    except ValueError as error:
        damage = str(error)
    # libjpeg goes on after damage that it only warns about, and so do the decoders of training.
    # Pillow does too, but refuses a file that ends too soon.
    try:
        return DecodedImage(_by_pillow(data, 16).pixels, damage=damage)
    except ValueError:
        raise ValueError(f"undecodable JPEG: {damage}") from None


def _by_pillow(data: bytes, bits: int) -> DecodedImage:
    try:
        with Image.open(io.BytesIO(data), formats=tuple(FORMATS)) as image:
            check_size(*image.size)
            # Before anything loads the pixels: a loaded image has forgotten its tiles.
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
        raise ValueError(f"no image of a kind that is read ({', '.join(FORMATS)})") from None
    # Pillow's decoders raise a dozen kinds for damaged files; every one means the same here.
    except Exception as error:
        raise ValueError(f"undecodable image: {error}") from None


def _eight_bit(image: Image.Image, bits: int, changed: list[str]) -> Pixels:
    """The first frame as uint8 [H, W] or [H, W, 3]; appends what was converted to `changed`."""
    kind, inverted = image.format, min_is_white(image)
    # The other formats that have more than 8 bits say how many, and Pillow scales by that.
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
            raise ValueError("float pixels outside 0 to 1 have no agreed brightness")
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
