"""predict reads the same pixels from an image file as prep stores, for every kind of file."""

from __future__ import annotations

import ctypes
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from click.testing import CliRunner
from PIL import Image

from slipform.pipelines.beton import Beton
from slipform.pipelines.decoding.decoder import Decoder
from slipform.pipelines.decoding.image_file import FORMATS
from slipform.pipelines.manifest import read_manifest
from slipform.preprocess.cli import main
from slipform.train.inference.predict import read_pixels


def write_files(folder: Path) -> None:
    """One file of every kind."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    rgb = Image.fromarray(generator.integers(0, 256, (61, 83, 3), np.uint8))
    wide = generator.integers(0, 4096, (61, 83)).astype(np.uint16)
    exif = Image.Exif()
    exif[0x0112] = 6
    plain = ("jpg", "jfif", "png", "webp", "avif", "jp2", "tif", "bmp", "gif", "ppm")
    assert {Image.registered_extensions()[f".{ending}"] for ending in plain} == set(FORMATS)
    for ending in plain:
        rgb.save(folder / f"plain.{ending}", "JPEG" if ending == "jfif" else None)
    rgb.convert("L").save(folder / "gray.jpg")
    rgb.convert("L").save(folder / "gray.png")
    rgb.convert("1").save(folder / "bit.png")
    rgb.quantize(16).save(folder / "palette.png")
    rgb.convert("CMYK").save(folder / "cmyk.jpg")
    rgb.convert("CMYK").save(folder / "cmyk.tif")
    rgb.convert("RGBA").rotate(20).save(folder / "alpha.png")
    rgb.convert("LA").rotate(20).save(folder / "gray-alpha.png")
    rgb.save(folder / "turned.jpg", exif=exif)
    rgb.save(folder / "turned.png", exif=exif)
    rgb.save(folder / "progressive.jpg", progressive=True)
    rgb.save(folder / "frames.gif", save_all=True, append_images=[Image.new("RGB", rgb.size)])
    Image.fromarray(wide).save(folder / "wide.png")
    Image.fromarray(wide).save(folder / "wide.tif")
    Image.fromarray(wide.astype(np.int32)).save(folder / "int32.tif")
    Image.fromarray((wide / 4096).astype(np.float32)).save(folder / "float.tif")
    for ending in ("png", "tif"):  # Pillow cannot write 16 bits of color
        cv2.imwrite(str(folder / f"wide-color.{ending}"), np.dstack([wide, wide // 2, wide // 3]))


def decoded_in_training(beton: Beton, index: int) -> npt.NDArray[np.uint8]:
    """A JPEG sample as the host executor decodes it."""
    height, width = int(beton.heights[index]), int(beton.widths[index])
    region = np.array([[0, 0, width, height]], np.int32)
    picture = Decoder().decode([beton.bytes_of(index)], region)
    assert picture.bad == ()
    pointer = ctypes.cast(int(picture.addresses[0]), ctypes.POINTER(ctypes.c_uint8))
    return np.ctypeslib.as_array(pointer, (height, width, 3)).copy()


@pytest.mark.parametrize(
    "options",
    [[], ["--bits", "12"], ["--shorter-side", "40"], ["--max-side", "50", "--bits", "12"]],
    ids=" ".join,
)
def test_prep_stores_the_pixels_that_predict_sees(tmp_path: Path, options: list[str]) -> None:
    for name in ("a", "b"):
        write_files(tmp_path / "in" / name)
    for encoding in ("raw", "keep"):
        arguments = ["--source", str(tmp_path / "in"), "--out", str(tmp_path / encoding)]
        fractions = ["--val-fraction", "0", "--test-fraction", "0"]
        result = CliRunner().invoke(
            main, ["images", *arguments, *fractions, "--encoding", encoding, *options]
        )
        assert result.exit_code == 0, result.output
    files = sorted((tmp_path / "in").rglob("*.*"))
    raw, manifest = Beton(tmp_path / "raw/train.beton"), read_manifest(tmp_path / "raw")
    kept = Beton(tmp_path / "keep/train.beton")
    assert len(raw) == len(kept) == len(files) == 56
    num_kept = 0
    for i, file in enumerate(files):
        seen = read_pixels(file, manifest.options)
        np.testing.assert_array_equal(raw.raw(i), seen, err_msg=file.name)
        if kept.bytes_of(i).tobytes() == file.read_bytes():
            num_kept += 1
            np.testing.assert_array_equal(decoded_in_training(kept, i), seen, err_msg=file.name)
    assert num_kept == (0 if "--shorter-side" in options or "--max-side" in options else 8)
