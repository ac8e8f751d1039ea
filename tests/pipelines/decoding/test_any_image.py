"""The rules of any_image, one by one, compared with known values."""

from __future__ import annotations

import errno
import io
import os
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from slipform.pipelines.decoding.any_image import (
    MAX_PIXELS,
    decode,
    quiet_decoders,
)
from slipform.pipelines.decoding.image_file import ENDINGS, FORMATS, read_bytes
from tests.pipelines import folders


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def colors(height: int = 37, width: int = 53) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def wide(most: int) -> npt.NDArray[np.uint16]:
    """16-bit values up to and including `most`."""
    values = np.random.default_rng(1).integers(0, most + 1, (37, 53)).astype(np.uint16)
    values[0, 0] = most
    return values


def noise_jpeg() -> bytes:
    return saved(Image.fromarray(colors(480, 640)), "JPEG")


def damaged_jpegs() -> dict[str, bytes]:
    """Streams that libjpeg decodes in full, with a warning."""
    data = noise_jpeg()
    at = data.index(b"\xff\xda") + 2000
    return {
        "zeros": data[:at] + b"\0" * 30000 + data[at + 30000 :],
        "extra": data[:at] + b"\xff\x00\x12\x34" * 4 + data[at:],
    }


def test_alpha_is_composited_over_white() -> None:
    rgba = np.dstack([colors(), np.full((37, 53), 128, np.uint8)])
    rgba[:5, :, 3] = 0
    image = decode(saved(Image.fromarray(rgba), "PNG"))
    assert image.converted == ("not a jpeg", "alpha")
    assert (image.pixels[:5] == 255).all()
    expected = rgba[5:, :, :3].astype(float) * 128 / 255 + 255 * 127 / 255
    assert np.abs(image.pixels[5:] - expected).max() <= 1


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_clipped(kind: str) -> None:
    image = decode(saved(Image.fromarray(wide(60_000)), kind))
    assert image.converted == ("not a jpeg", "16 bit")
    np.testing.assert_array_equal(image.pixels, wide(60_000) >> 8)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize(("most", "used"), [(4095, 12), (1023, 10), (255, 8), (4096, 0)])
def test_unused_bits_are_noticed_and_can_be_given(kind: str, most: int, used: int) -> None:
    data = saved(Image.fromarray(wide(most)), kind)
    noticed = [reason for reason in decode(data).converted if "of 16 bits used" in reason]
    assert noticed == ([f"only {used} of 16 bits used"] if used else [])
    if used:
        image = decode(data, bits=used)
        assert image.converted == ("not a jpeg", "16 bit")
        np.testing.assert_array_equal(image.pixels, wide(most) >> (used - 8))
    with pytest.raises(ValueError, match="needs more than"):
        decode(data, bits=most.bit_length() - 1)


@pytest.mark.parametrize("ending", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [3, 4])
def test_unused_bits_of_color_images(ending: str, channels: int) -> None:
    values = np.dstack([wide(4095) // (c + 1) for c in range(3)])
    stored = values[..., ::-1]  # OpenCV writes blue first
    if channels == 4:
        stored = np.dstack([stored, np.full((37, 53), 65_535, np.uint16)])
    data = cv2.imencode(ending, stored)[1].tobytes()
    image = decode(data)
    assert {"16 bit", "only 12 of 16 bits used"} <= set(image.converted)
    np.testing.assert_array_equal(image.pixels, values >> 8)
    np.testing.assert_array_equal(decode(data, bits=12).pixels, values >> 4)


def test_tiffs_in_which_zero_is_white() -> None:
    data = saved(Image.fromarray(wide(60_000)), "TIFF", tiffinfo={262: 0})
    np.testing.assert_array_equal(decode(data).pixels, (65_535 - wide(60_000)) >> 8)


def test_int32_within_16_bits() -> None:
    values = wide(60_000).astype(np.int32)
    np.testing.assert_array_equal(
        decode(saved(Image.fromarray(values), "TIFF")).pixels, values >> 8
    )
    for beyond in (-1, 65_536):
        values[1, 1] = beyond
        with pytest.raises(ValueError, match="value of white"):
            decode(saved(Image.fromarray(values), "TIFF"))


def test_floats_within_0_and_1() -> None:
    values = (wide(60_000) / 60_000).astype(np.float32)
    image = decode(saved(Image.fromarray(values), "TIFF"))
    assert image.converted == ("not a jpeg", "float")
    np.testing.assert_array_equal(image.pixels, np.rint(values.astype(np.float64) * 255))
    for beyond in (-0.01, 1.5, np.nan, np.inf):
        values[1, 1] = beyond
        with pytest.raises(ValueError, match="value of white"):
            decode(saved(Image.fromarray(values), "TIFF"))


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "PNG", "WEBP"])
def test_first_of_several_frames(kind: str) -> None:
    frames = [Image.new("RGB", (20, 10), color) for color in ("red", "blue")]
    lossless = {"lossless": True} if kind == "WEBP" else {}
    image = decode(saved(frames[0], kind, save_all=True, append_images=frames[1:], **lossless))
    assert "several frames" in image.converted
    assert (image.rgb == [255, 0, 0]).all()


@pytest.mark.parametrize("name", damaged_jpegs())
def test_warnings_of_libjpeg_are_reported(name: str) -> None:
    assert decode(noise_jpeg()).damage == ""
    image = decode(damaged_jpegs()[name])
    assert "Corrupt JPEG data" in image.damage
    assert image.pixels.shape == (480, 640, 3)


@pytest.mark.parametrize("factors", [0x13, 0x14, 0x31, 0x41, 0x00])
def test_sampling_of_chroma(factors: int) -> None:
    """libjpeg decodes every kind. Only the kinds that all decoders support are stored unchanged."""
    content = bytearray(folders.jpeg(folders.smooth(48, 48), subsampling=0))
    content[content.index(b"\xff\xc0") + 11] = factors  # of Y; those of Cb and Cr are 1 x 1
    if not factors:
        with pytest.raises(ValueError, match="undecodable"):
            decode(bytes(content))
        return
    image = decode(bytes(content))
    assert image.pixels.shape == (48, 48, 3)
    assert image.converted == (() if factors == 0x41 else ("unusual jpeg coding",))


def test_a_header_with_an_unknown_color_space() -> None:
    content = bytearray(folders.jpeg(folders.smooth(48, 48)))
    content[content.index(b"\xff\xc4") + 2] = 0xFF  # the length of a Huffman table
    with pytest.raises(ValueError, match="JPEG"):
        decode(bytes(content))


def test_a_small_jpeg_cannot_claim_a_large_image() -> None:
    data = saved(Image.fromarray(colors()), "JPEG")
    at = data.index(b"\xff\xc0") + 5
    for side in (9_000, 16_000):
        with pytest.raises(ValueError, match=f"{side} x {side}"):
            decode(data[:at] + struct.pack(">HH", side, side) + data[at + 4 :])
    # The smallest possible JPEGs: one color, and only a scan.
    for options in ({"progressive": True}, {"optimize": True}):
        for mode in ("L", "RGB"):
            flat = saved(Image.new(mode, (3000, 2000)), "JPEG", quality=1, **options)
            assert decode(flat).pixels.shape[:2] == (2000, 3000)


def test_large_images_of_other_formats_are_refused_by_their_header() -> None:
    data = saved(Image.new("1", (10_000, MAX_PIXELS // 10_000 + 1)), "PNG")
    with quiet_decoders(), pytest.raises(ValueError, match=r"too large|exceeds limit"):
        decode(data)


@pytest.mark.parametrize("kind", ["PCX", "ICO", "TGA", "PDF", "EPS", "SGI"])
def test_formats_that_are_not_listed_are_not_opened(kind: str) -> None:
    with pytest.raises(ValueError, match="not an image of a supported format"):
        decode(saved(Image.fromarray(colors()), kind))


def test_every_ending_belongs_to_its_format() -> None:
    registered = Image.registered_extensions()
    for kind, endings in FORMATS.items():
        assert {registered[ending] for ending in endings} <= {kind, "MPO"}
    assert len(set(ENDINGS)) == len(ENDINGS)


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"abc")
    (tmp_path / "link.jpg").symlink_to("a.jpg")
    assert read_bytes(tmp_path / "a.jpg") == read_bytes(tmp_path / "link.jpg") == b"abc"
    os.mkfifo(tmp_path / "fifo.jpg")
    (tmp_path / "device.jpg").symlink_to("/dev/zero")
    (tmp_path / "dead.jpg").symlink_to("nowhere")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "folder.jpg").mkdir()
    with open(tmp_path / "huge.jpg", "wb") as file:
        file.truncate(1 << 40)
    for name in ("fifo", "device", "dead", "loop", "folder", "huge"):
        with pytest.raises(ValueError, match=r"regular|followed|bytes"):
            read_bytes(tmp_path / f"{name}.jpg")
    with pytest.raises(FileNotFoundError):
        read_bytes(tmp_path / "none.jpg")


@pytest.mark.parametrize("code", [errno.EIO, errno.EMFILE, errno.ESTALE, errno.EACCES, errno.ELOOP])
def test_errors_that_say_nothing_about_the_file_are_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """A failing disk must not look like a file that can be left out."""

    def fail(path: Path, flags: int) -> int:
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(os, "open", fail)
    wanted = ValueError if code in (errno.EACCES, errno.ELOOP) else OSError
    with pytest.raises(wanted, match=os.strerror(code)):
        read_bytes(tmp_path / "a.jpg")
