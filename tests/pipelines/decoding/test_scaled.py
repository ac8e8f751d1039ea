"""Reduced decoding: when it is chosen, its error, and what it leaves to the decoder."""

from __future__ import annotations

import ctypes
import io
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from slipform.pipelines.decoding.decoder import Decoder
from slipform.pipelines.decoding.scaled import SCALES, decode_scaled
from slipform.pipelines.errors import ConfigError
from slipform.pipelines.loader import Loader
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.plan.plan import Plan, draw
from slipform.pipelines.rendering.region import decode_scales, regions_needed, relative
from tests.pipelines import reference

HEIGHT, WIDTH = 900, 1400
RGB = npt.NDArray[np.uint8]


@cache
def _photo(kind: str) -> RGB:
    """ "smooth": waves. "sharp": flat patches with hard edges and texture, like those of
    objects."""
    generator = np.random.default_rng(3)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    waves = [np.sin(x / 61 + k) + np.cos(y / 47 - k) for k in range(3)]
    image = 128 + 50 * np.stack(waves, axis=2)
    if kind == "sharp":
        for _ in range(600):
            x0, y0 = generator.integers(0, WIDTH), generator.integers(0, HEIGHT)
            x1, y1 = x0 + generator.integers(4, 120), y0 + generator.integers(4, 120)
            patch = image[y0:y1, x0:x1]
            patch[:] = generator.integers(0, 256, 3) + generator.normal(0, 9, patch.shape)
    return np.clip(image, 0, 255).astype(np.uint8)


def _jpeg(image: RGB | Image.Image, **options: object) -> npt.NDArray[np.uint8]:
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", **({"quality": 92} | options))
    return np.frombuffer(buffer.getvalue(), np.uint8)


def _plan(count: int, size: int, **options: object) -> Plan:
    """Random boxes, with output colors in 0..255."""
    settings = {"crop": "random_resized", "flip": "horizontal", "normalize": "half"} | options
    spec = Augmentation(image_size=size, **settings)  # type: ignore[arg-type]
    spec = replace(spec, normalize=((0.0,) * 3, (1 / 255,) * 3))
    sides = np.full(count, HEIGHT, np.int32), np.full(count, WIDTH, np.int32)
    return draw(spec, np.arange(count), *sides, 0, 0)


def _decoded(jpeg: npt.NDArray[np.uint8], plan: Plan, scaled: bool) -> tuple[list, list[int]]:  # type: ignore[type-arg]
    """The output of a float64 renderer for the decoder's pixels, and the scales."""
    count = len(plan)
    sides = np.full(count, HEIGHT, np.int32), np.full(count, WIDTH, np.int32)
    regions = regions_needed(plan, *sides)
    scales = decode_scales(plan, *sides) if scaled else None
    pixels = Decoder().decode([jpeg] * count, regions, scales)
    assert pixels.origin is not None
    geometry, clip = relative(plan, pixels.origin, pixels.heights, pixels.widths, pixels.scales)
    images = []
    for i in range(count):
        shape = int(pixels.heights[i]), int(pixels.widths[i]), 3
        stored = _at(int(pixels.addresses[i]), shape)
        images.append(reference.resample(stored, geometry[i], clip[i], plan.image_size, "zero"))
    used = [1] * count if pixels.scales is None else pixels.scales.tolist()
    return images, used


def _at(address: int, shape: tuple[int, int, int]) -> RGB:
    return np.ctypeslib.as_array(ctypes.cast(address, ctypes.POINTER(ctypes.c_uint8)), shape).copy()


@pytest.mark.parametrize(
    ("size", "want"), [pytest.param(200, 2, marks=pytest.mark.slow), (100, 4), (40, 8)]
)
@pytest.mark.parametrize(
    ("kind", "mean", "most"),
    [pytest.param("smooth", 0.35, 3.0, marks=pytest.mark.slow), ("sharp", 2.0, 13.0)],
)
def test_the_difference_from_a_full_decode(
    size: int, want: int, kind: str, mean: float, most: float
) -> None:
    """The error of 255, on average and for 99 of 100 values. Waves show a shift by half a pixel."""
    jpeg, plan = _jpeg(_photo(kind)), _plan(10, size)
    ours, used = _decoded(jpeg, plan, scaled=True)
    full, ones = _decoded(jpeg, plan, scaled=False)
    assert want in used
    assert set(ones) == {1}
    for image, whole, scale in zip(ours, full, used, strict=True):
        distance = np.abs(image - whole)
        if scale == 1:
            assert distance.max() == 0
        else:
            assert distance.mean() <= mean
            assert np.percentile(distance, 99) <= most


def test_the_scale_leaves_more_than_a_pixel_to_the_filter() -> None:
    plan = _plan(200, 60)
    sides = np.full(200, HEIGHT, np.int32), np.full(200, WIDTH, np.int32)
    scales = decode_scales(plan, *sides)
    step = np.minimum(np.abs(plan.geometry[:, 0, 0]), np.abs(plan.geometry[:, 1, 1]))
    assert (step[scales > 1] >= 1.25 * scales[scales > 1]).all()
    whole = step > 10  # nearly the whole image: a reduced decode is always faster
    assert (scales[whole] == 8).all()
    assert len(set(scales.tolist())) > 1


def test_small_images_and_warps_are_decoded_in_full() -> None:
    plan = _plan(50, 40)
    small = np.full(50, 500, np.int32)
    assert (decode_scales(plan, small, small) == 1).all()
    turned = _plan(50, 40, rotation=30.0)
    sides = np.full(50, HEIGHT, np.int32), np.full(50, WIDTH, np.int32)
    assert (decode_scales(turned, *sides) == 1).all()


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
@pytest.mark.parametrize("scale", SCALES)
def test_no_more_than_the_region_is_decoded(options: dict[str, object], scale: int) -> None:
    """Except for the MCUs that it touches, 16 px here. OpenCV decodes a whole image."""
    found = decode_scaled(_jpeg(_photo("sharp"), **options), scale, (333, 217, 590, 401))
    assert found is not None
    if options:
        assert found.origin == (0, 0)
        assert found.pixels.shape == (-(-HEIGHT // scale), -(-WIDTH // scale), 3)
    else:
        assert found.origin == (320, 208)
        assert found.pixels.shape == ((416 - 208) // scale, (592 - 320) // scale, 3)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
@pytest.mark.parametrize("scale", SCALES)
def test_kinds_of_jpegs_that_are_decoded(mode: str, options: dict[str, object], scale: int) -> None:
    """Compared with Pillow's reduced decode, which uses the same method of libjpeg, without
    chroma."""
    jpeg = _jpeg(Image.fromarray(_photo("smooth")).convert(mode), **options)
    found = decode_scaled(jpeg, scale, (0, 0, WIDTH, HEIGHT))
    assert found is not None
    ours, origin = found
    assert origin == (0, 0)
    with Image.open(io.BytesIO(jpeg.tobytes())) as picture:
        picture.draft(mode, (WIDTH // scale, HEIGHT // scale))
        theirs = np.asarray(picture.convert("RGB")).astype(int)
    assert ours.shape == (-(-HEIGHT // scale), -(-WIDTH // scale), 3) == theirs.shape
    assert np.abs(ours - theirs).mean() < 1


def test_a_damaged_scan_is_left_to_the_decoder() -> None:
    """OpenCV would fill the rest with gray."""
    damaged = _jpeg(_photo("sharp")).copy()
    middle = len(damaged) // 2
    damaged[middle : middle + 200] = np.tile(np.array([0xFF, 0xD9], np.uint8), 100)
    assert decode_scaled(damaged, 4, (0, 0, WIDTH, HEIGHT)) is None
    above = decode_scaled(damaged, 4, (0, 0, WIDTH, HEIGHT // 4))
    assert above is not None


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_bytes_after_the_end_change_nothing(options: dict[str, object]) -> None:
    """Phones append videos, depth or data of their own."""
    whole = _jpeg(_photo("sharp"), **options)
    region = (333, 217, 590, 401)
    want = decode_scaled(whole, 4, region)
    assert want is not None
    for more in (b"\0", b"SEFT" + bytes(500), whole[:-2].tobytes()):
        found = decode_scaled(np.frombuffer(whole.tobytes() + more, np.uint8), 4, region)
        assert found is not None
        assert found.origin == want.origin
        np.testing.assert_array_equal(found.pixels, want.pixels)


def test_images_that_are_left_to_the_decoder() -> None:
    """Damage, four components, and images with an EXIF rotation."""
    photo = Image.fromarray(_photo("smooth"))
    whole = _jpeg(photo)
    exif = Image.Exif()
    exif[0x0112] = 6
    cut = _jpeg(photo, comment=whole[:900].tobytes() + whole[-2:].tobytes())[:-2]  # a thumbnail
    for jpeg in (
        whole[:-2], whole[: len(whole) // 2], whole[:100], whole[1:], whole[:0], cut,
        np.append(whole[:-2], np.zeros(99, np.uint8)),
        _jpeg(photo.convert("CMYK")), _jpeg(photo, exif=exif.tobytes()),
    ):  # fmt: skip
        assert decode_scaled(jpeg, 4, (0, 0, 8, 8)) is None
    assert decode_scaled(whole, 4, (0, 0, WIDTH, HEIGHT + 1)) is None  # smaller than stated
    plan = _plan(3, 40)
    sides = np.full(3, HEIGHT, np.int32), np.full(3, WIDTH, np.int32)
    jpegs = [whole, whole[: len(whole) // 2], whole]
    pixels = Decoder().decode(jpegs, regions_needed(plan, *sides), np.full(3, 4, np.int32))
    assert pixels.bad == (1,)
    assert pixels.scales is not None
    assert pixels.scales.tolist() == [4, 1, 4]
    assert not _at(
        int(pixels.addresses[1]), (int(pixels.heights[1]), int(pixels.widths[1]), 3)
    ).any()


def test_the_setting_decode_scale(tmp_path: Path) -> None:
    """ "auto" changes the pixels of large photos slightly, and "off" does not. The labels do not
    change."""
    from slipform.preprocess.prep import prepare

    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for k in range(3):
            image = Image.fromarray(np.roll(_photo("sharp"), 100 * k, axis=1))
            image.save(tmp_path / "photos" / name / f"{k}.jpg", quality=92)
    data = tmp_path / "data"
    prepare("images", source=tmp_path / "photos", out=data)
    augment = Augmentation(image_size=48, crop="random_resized", normalize="half")
    found = {}
    for executor, scale in (("host", "auto"), ("host", "off"), ("resident", "auto")):
        with Loader(
            data, augment=augment, batch_size=4, executor=executor, decode_scale=scale
        ) as loader:
            batch = next(iter(loader))
            found[executor, scale] = batch.images.numpy()
    off = found["host", "off"]
    assert np.abs(off - found["resident", "auto"]).mean() * 127.5 < 0.05
    assert 0.1 < np.abs(off - found["host", "auto"]).mean() * 127.5 < 2
    with pytest.raises(ConfigError, match="decode_scale"):
        Loader(data, batch_size=4, decode_scale="sometimes")
