"""Header reading, conversion and resizing, compared with Pillow."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageOps

from slipform.pipelines.beton_format import JPG, RAW
from slipform.pipelines.decoding.any_image import decode, resize
from slipform.pipelines.decoding.jpeg_file import read_header
from slipform.preprocess.encode import Encoding, encode
from slipform.preprocess.pixel_sums import PixelSums


def picture(height: int = 37, width: int = 53, channels: int = 3) -> npt.NDArray[np.uint8]:
    """An image that is smooth enough for JPEG, and different in every channel and corner."""
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(channels), indexing="ij")
    return ((x * 4 + y * (c + 1) * 2 + c * 60) % 256).astype(np.uint8)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def reference(data: bytes) -> npt.NDArray[np.uint8]:
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))


JPEGS = {
    "baseline": {"quality": 90},
    "progressive": {"quality": 90, "progressive": True},
    "4:4:4": {"quality": 90, "subsampling": 0},
    "restart markers": {"quality": 90, "restart_marker_rows": 1},
    "exif upright": {
        "exif": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x01\0\0\0\0\0\0\0"
    },
    "comment": {"comment": b"\xff\xd8 not a header"},
}


@pytest.mark.parametrize("name", JPEGS)
@pytest.mark.parametrize("gray", [False, True])
def test_plain_jpegs_are_kept_byte_for_byte(name: str, gray: bool) -> None:
    image = Image.fromarray(picture()).convert("L" if gray else "RGB")
    data = saved(image, "JPEG", **JPEGS[name])
    assert read_header(data) == read_header(data + b"bytes after the end")
    stored = encode(data, Encoding(), decoded=True)
    assert stored.data == data
    assert (stored.width, stored.height, stored.mode, stored.converted) == (53, 37, JPG, ())
    assert stored.pixels is not None
    assert stored.pixels.ndim == (2 if gray else 3)
    np.testing.assert_array_equal(
        np.dstack([stored.pixels] * 3)[..., :3] if gray else stored.pixels, reference(data)
    )


@pytest.mark.parametrize("orientation", range(2, 9))
def test_exif_rotation_is_applied(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(Image.fromarray(picture()), "JPEG", quality=95, exif=exif)
    stored = encode(data, Encoding(), decoded=False)
    assert stored.converted == ("exif rotation",)
    assert (stored.height, stored.width) == reference(data).shape[:2]
    np.testing.assert_array_equal(stored.pixels, reference(data))
    assert read_header(bytes(stored.data)).convert == ()  # a second run keeps it
    raw = encode(data, Encoding("raw"), decoded=True)
    np.testing.assert_array_equal(
        np.frombuffer(raw.data, np.uint8).reshape(reference(data).shape), reference(data)
    )


def unusual() -> dict[str, tuple[bytes, set[str]]]:
    rgb = Image.fromarray(picture())
    exif = Image.Exif()
    exif[0x0112] = 6
    return {
        "png": (saved(rgb, "PNG"), {"not a jpeg"}),
        "bmp": (saved(rgb, "BMP"), {"not a jpeg"}),
        "tiff": (saved(rgb, "TIFF"), {"not a jpeg"}),
        "webp": (saved(rgb, "WEBP", lossless=True), {"not a jpeg"}),
        "gif": (saved(rgb.quantize(16), "GIF"), {"not a jpeg", "palette"}),
        "palette": (saved(rgb.quantize(16), "PNG"), {"not a jpeg", "palette"}),
        "one bit": (saved(rgb.convert("1"), "PNG"), {"not a jpeg"}),
        "cmyk": (saved(rgb.convert("CMYK"), "JPEG", quality=95), {"cmyk"}),
        "cmyk tiff": (saved(rgb.convert("CMYK"), "TIFF"), {"not a jpeg", "cmyk"}),
        "png rotated": (saved(rgb, "PNG", exif=exif), {"not a jpeg", "exif rotation"}),
    }


@pytest.mark.parametrize("name", unusual())
def test_unusual_files_look_as_in_pillow(name: str) -> None:
    data, reasons = unusual()[name]
    stored = encode(data, Encoding("raw"), decoded=True)
    assert set(stored.converted) == reasons
    np.testing.assert_array_equal(
        np.frombuffer(stored.data, np.uint8).reshape(stored.height, stored.width, 3),
        reference(data),
    )
    kept = encode(data, Encoding(quality=95), decoded=True)
    assert kept.mode == JPG
    decoded = reference(bytes(kept.data)).astype(int)
    assert (
        np.abs(decoded - reference(data)).mean() < 12
    )  # these images have hard edges in color, which 4:2:0 softens


def test_bombs_are_refused_before_memory_is_allocated() -> None:
    small = saved(Image.fromarray(picture()), "JPEG")
    at = small.index(b"\xff\xc0") + 5
    bomb = small[:at] + struct.pack(">HH", 65000, 65000) + small[at + 4 :]
    with pytest.raises(ValueError, match="65000 x 65000"):
        encode(bomb, Encoding(), decoded=True)
    png = saved(Image.fromarray(picture()), "PNG")
    header = b"IHDR" + struct.pack(">II", 60000, 60000) + png[24:29]
    png = png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:]
    with pytest.raises(ValueError, match=r"exceeds limit|60000|bomb"):
        encode(png, Encoding(), decoded=True)


@pytest.mark.parametrize("cut", [2, 30, 700, 1100])
def test_truncated_jpegs_are_refused(cut: int) -> None:
    data = saved(Image.fromarray(picture(120, 90)), "JPEG", quality=90)
    with pytest.raises(ValueError, match="JPEG"):
        encode(data[:-cut], Encoding(), decoded=True)


@pytest.mark.parametrize(
    ("shorter", "longer", "expected"),
    [(20, None, (29, 20)), (None, 30, (30, 21)), (20, 25, (25, 17)), (400, 400, (53, 37))],
)
def test_resizing_is_pillows_triangle_filter(
    shorter: int | None, longer: int | None, expected: tuple[int, int]
) -> None:
    result = resize(picture(), shorter, longer)
    assert result.shape[1::-1] == expected
    np.testing.assert_array_equal(
        result, np.asarray(Image.fromarray(picture()).resize(expected, Image.Resampling.BILINEAR))
    )
    stored = encode(
        saved(Image.fromarray(picture()), "JPEG"),
        Encoding(shorter_side=shorter, max_side=longer),
        decoded=False,
    )
    assert (stored.width, stored.height) == expected
    assert ("resized" in stored.converted) == (expected != (53, 37))


def test_arrays_are_kept_as_raw_pixels() -> None:
    for pixels in (picture(), picture()[..., 0].copy()):
        stored = encode(pixels, Encoding(), decoded=True)
        assert stored.mode == RAW
        expected = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, 2)
        assert bytes(stored.data) == expected.tobytes()


def test_jpeg_encoding_is_opencvs_at_that_quality() -> None:
    stored = encode(picture(), Encoding("jpeg", quality=80), decoded=True)
    expected = cv2.imencode(".jpg", picture()[..., ::-1].copy(), [cv2.IMWRITE_JPEG_QUALITY, 80])[
        1
    ].tobytes()
    assert bytes(stored.data) == expected


def test_pixel_sums_are_exact() -> None:
    generator = np.random.default_rng(0)
    images = [generator.integers(0, 256, (height, 900, 3), np.uint8) for height in (1, 50, 1500)]
    images += [
        np.full((700, 700, 3), 255, np.uint8),
        generator.integers(0, 256, (40, 30), np.uint8),
    ]
    sums = PixelSums()
    for image in images:
        sums.add_pixels(image)
    pixels = np.concatenate(
        [
            np.repeat(i[..., None], 3, 2).reshape(-1, 3) if i.ndim == 2 else i.reshape(-1, 3)
            for i in images
        ]
    ).astype(np.int64)
    assert sums.sums == pixels.sum(0).tolist()
    assert sums.squares == (pixels**2).sum(0).tolist()
    mean, std = sums.mean_std()
    np.testing.assert_allclose(mean, (pixels / 255).mean(0), rtol=1e-12)
    np.testing.assert_allclose(
        std, (pixels / 255).std(0), rtol=1e-9
    )  # numpy's sums along axis 0 are not exact


def test_decoders_agree_on_pixels() -> None:
    data = saved(Image.fromarray(picture(200, 301)), "JPEG", quality=75)
    np.testing.assert_array_equal(decode(data).pixels, reference(data))
