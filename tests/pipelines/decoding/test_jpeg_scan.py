"""Slipform's decoder of baseline scans: the pixels of regions, and the check of files."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import pytest
import simplejpeg
from PIL import Image

from slipform.pipelines.decoding import jpeg_layout, jpeg_scan
from slipform.pipelines.decoding.jpeg_layout import read_layout
from slipform.pipelines.decoding.jpeg_scan import decode_region, is_sound
from tests.pipelines.decoding.jpegs import HEIGHT, KINDS, WIDTH, jpeg, mutated, noise, waves
from tests.pipelines.rendering.guarded import Guarded

Stream = npt.NDArray[np.uint8]


def _decoded(
    stream: Stream, region: tuple[int, int, int, int], scale: int
) -> tuple[Stream, int, int]:
    """The pixels and their origin, in reduced pixels."""
    layout = read_layout(stream)
    assert layout is not None
    found = decode_region(stream, layout, region, scale)
    assert found is not None
    pixels, (left, top) = found
    assert (left % scale, top % scale) == (0, 0)
    return pixels, left // scale, top // scale


def _averaged(stream: Stream, scale: int) -> npt.NDArray[np.float64]:
    """Means over squares of a full decode. Squares at the edges repeat the last pixel."""
    with Image.open(io.BytesIO(stream.tobytes())) as picture:
        pixels = np.asarray(picture.convert("RGB"), np.float64)
    more = [(0, -side % scale) for side in pixels.shape[:2]]
    pixels = np.pad(pixels, [*more, (0, 0)], "edge")
    height, width = pixels.shape[0] // scale, pixels.shape[1] // scale
    return pixels.reshape(height, scale, width, scale, 3).mean(axis=(1, 3))


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("kind", KINDS)
def test_pixels_are_averages_of_the_full_decode(kind: str, scale: int) -> None:
    """Images of waves show misplaced frequencies and shifted color."""
    stream = jpeg(waves(), **KINDS[kind])
    pixels, left, top = _decoded(stream, (0, 0, WIDTH, HEIGHT), scale)
    want = _averaged(stream, scale)
    assert (left, top) == (0, 0)
    assert pixels.shape == want.shape
    distance = np.abs(pixels - want)
    assert distance.mean() < (2.5 if kind == "worst" else 1.0)
    assert distance[: HEIGHT // scale, : WIDTH // scale].max() < (25 if kind == "worst" else 8)


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("kind", KINDS)
def test_a_region_is_a_part_of_the_whole(kind: str, scale: int) -> None:
    stream = jpeg(noise(), **KINDS[kind])
    whole, _, _ = _decoded(stream, (0, 0, WIDTH, HEIGHT), scale)
    generator = np.random.default_rng(1)
    for _ in range(12):
        x0, y0 = int(generator.integers(0, WIDTH)), int(generator.integers(0, HEIGHT))
        x1, y1 = int(generator.integers(x0, WIDTH)) + 1, int(generator.integers(y0, HEIGHT)) + 1
        part, left, top = _decoded(stream, (x0, y0, x1, y1), scale)
        assert left * scale <= x0
        assert top * scale <= y0
        assert (left + part.shape[1]) * scale >= x1
        assert (top + part.shape[0]) * scale >= y1
        assert (part == whole[top : top + part.shape[0], left : left + part.shape[1]]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_intact_files_are_sound(kind: str) -> None:
    for image in (waves(), noise()):
        stream = jpeg(image, **KINDS[kind])
        assert is_sound(stream)
        assert is_sound(stream.tobytes())
        assert not is_sound(stream[:-2])


def test_other_kinds_are_left_to_libjpeg() -> None:
    cmyk = io.BytesIO()
    Image.fromarray(noise()).convert("CMYK").save(cmyk, "JPEG")
    others = [
        jpeg(noise(), progressive=True),
        jpeg(noise(), keep_rgb=True),
        np.frombuffer(cmyk.getvalue(), np.uint8),
        np.zeros(0, np.uint8),
    ]
    for stream in others:
        assert read_layout(stream) is None
        assert not is_sound(stream)


def _is_sound(stream: Stream) -> bool:
    """`is_sound`, after decoding regions. The bytes end at an inaccessible page."""
    memory = Guarded(max(1, len(stream)), np.uint8, at_end=True).array[: len(stream)]
    memory[:] = stream
    layout = read_layout(memory)
    if layout is not None and layout.size[0] * layout.size[1] < 1 << 20:
        width, height = layout.size
        region = width // 3, height // 3, -(-width * 2 // 3), -(-height * 2 // 3)
        for scale in (2, 4, 8):
            if layout.outputs(scale).max() <= 8:
                decode_region(memory, layout, region, scale)
    return is_sound(memory)


def _libjpeg_takes(data: bytes) -> bool:
    """Whether libjpeg decodes a stream without a warning."""
    try:
        gray = simplejpeg.decode_jpeg_header(data, strict=False)[2] == "Gray"
        simplejpeg.decode_jpeg(data, "GRAY" if gray else "RGB", strict=True)
    except ValueError:
        return False
    return True


def test_libjpeg_decodes_files_that_are_sound() -> None:
    generator = np.random.default_rng(2)
    streams = [jpeg(noise()[:70, :90], **options) for options in KINDS.values()]
    num_sound = 0
    for k in range(3000):
        stream = mutated(streams[k % len(streams)], generator)
        if _is_sound(stream):
            num_sound += 1
            assert _libjpeg_takes(stream.tobytes()), k
    assert num_sound > 100


def test_tables_are_kept_for_the_next_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a few sets of codes, each for its own images."""
    built: dict[bytes, object] = {}
    monkeypatch.setattr(jpeg_layout, "_built", built)
    # With optimized codes, each image has a set of its own.
    optimized = [
        jpeg(np.roll(noise(), k, axis=0), optimize=True, quality=20 + 4 * k) for k in range(18)
    ]
    usual = jpeg(noise(), quality=50)
    for stream in optimized:
        for content in (stream, usual):
            found = read_layout(np.frombuffer(content, np.uint8))
            assert found is not None
            monkeypatch.setattr(jpeg_layout, "_built", {})
            want = read_layout(np.frombuffer(content, np.uint8))
            monkeypatch.setattr(jpeg_layout, "_built", built)
            assert want is not None
            used = np.unique(want.parts[:, 3:] + np.array([0, 4]))
            for name in ("codes", "limits", "offsets"):
                one, other = getattr(found, name)[used], getattr(want, name)[used]
                np.testing.assert_array_equal(one[:, 1:], other[:, 1:])  # no code has length 0
            ac = used[used >= 4] - 4
            np.testing.assert_array_equal(found.skips[ac], want.skips[ac])
            np.testing.assert_array_equal(found.coefficients[ac], want.coefficients[ac])
        assert 1 < len(built) <= 16
    first = [read_layout(np.frombuffer(usual, np.uint8)) for _ in range(2)]
    assert first[0] is not None
    assert first[1] is not None
    assert first[0].codes is first[1].codes


def test_the_kernels_are_compiled_for_one_kind_of_array() -> None:
    """Another kind would take 20 s more: bytes, a view of a mapped file, and a copy of it."""
    stream = jpeg(waves(), **KINDS["4:2:0"])
    for given in (stream.tobytes(), np.frombuffer(stream.tobytes(), np.uint8), stream.copy()):
        assert is_sound(given)
    layout = read_layout(stream)
    assert layout is not None
    assert decode_region(stream.copy(), layout, (0, 0, 64, 64), 2) is not None
    assert len(jpeg_scan._scan.signatures) == len(jpeg_layout._read.signatures) == 1
