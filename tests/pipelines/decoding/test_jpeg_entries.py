"""Entry points in the scans of JPEGs: the same pixels, from fewer bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from slipform.pipelines.beton import Beton
from slipform.pipelines.decoding import scaled
from slipform.pipelines.decoding.jpeg_entries import (
    LARGE_PIXELS,
    STEP,
    EntryPoints,
    make_entries,
    read_entries,
)
from slipform.pipelines.decoding.jpeg_layout import Layout, read_layout
from slipform.pipelines.decoding.jpeg_scan import decode_region, find_entries, is_sound
from slipform.pipelines.loader import Loader
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.preprocess.encode import Encoding, encode
from tests.pipelines.decoding.jpegs import KINDS, jpeg, mutated, noise
from tests.pipelines.rendering.guarded import Guarded

Stream = npt.NDArray[np.uint8]
# With restarts after 32 and 64 MCUs, entry points lie at restart markers, and beside them.
MORE = KINDS | {f"restarts {n}": {"restart_marker_blocks": n} for n in (1, STEP, 2 * STEP, 100)}


def _wide(**options: Any) -> tuple[Stream, Layout]:
    """A JPEG with three entry points or more in a row of MCUs."""
    stream = jpeg(np.tile(noise(), (1, 4, 1)), **options)
    layout = read_layout(stream)
    assert layout is not None
    return stream, layout


def _found(stream: Stream) -> EntryPoints:
    entries = find_entries(stream)
    assert entries is not None
    return entries


@pytest.mark.parametrize("kind", MORE)
def test_regions_have_the_same_pixels(kind: str) -> None:
    stream, layout = _wide(**MORE[kind])
    entries = _found(stream)
    assert len(entries.positions) >= 3 * 203 // (8 * layout.mcu[1])
    width, height = layout.size
    generator = np.random.default_rng(1)
    for number in range(40):
        x0, y0 = int(generator.integers(0, width)), int(generator.integers(0, height))
        x1, y1 = int(generator.integers(x0, width)) + 1, int(generator.integers(y0, height)) + 1
        scale = (2, 4, 8)[number % 3]
        want = decode_region(stream, layout, (x0, y0, x1, y1), scale)
        ours = decode_region(stream, layout, (x0, y0, x1, y1), scale, entries)
        assert want is not None
        assert ours is not None
        assert ours[1] == want[1]
        np.testing.assert_array_equal(ours[0], want[0])


def test_only_the_rows_of_the_region_are_read_from_the_entry_point_before_it() -> None:
    """All other bytes are changed, and the pixels stay."""
    stream, layout = _wide()
    entries, region = _found(stream), (600, 64, 700, 128)
    want = decode_region(stream, layout, region, 2, entries)
    per_row, begin = len(entries.positions) // 13, int(layout.frame[4])
    is_read = np.zeros(len(stream), bool)
    is_read[:begin] = True
    for row in range(4, 8):
        first = row * per_row + 600 // (16 * STEP)
        # The region ends before the next entry point. The buffer holds up to eight bytes more.
        start, stop = entries.positions[first] // 8, entries.positions[first + 1] // 8
        is_read[begin + start : begin + stop + 9] = True
    assert is_read.mean() < 0.2
    changed = np.where(is_read, stream, 0x55).astype(np.uint8)
    assert decode_region(changed, layout, region, 2) is None  # it is damaged
    ours = decode_region(changed, layout, region, 2, entries)
    assert want is not None
    assert ours is not None
    np.testing.assert_array_equal(ours[0], want[0])


def test_the_bytes_after_a_jpeg() -> None:
    stream, layout = _wide()
    entries = _found(stream)
    packed = np.frombuffer(entries.packed(len(stream)), np.uint8)
    assert len(packed) == 20 + 10 * len(entries.positions)
    more = np.concatenate([packed, np.full(50, 7, np.uint8)])
    for after in (packed, more):
        found = read_entries(after, len(stream), layout)
        assert found is not None
        np.testing.assert_array_equal(found.positions, entries.positions)
        np.testing.assert_array_equal(found.predictors, entries.predictors)
    assert read_entries(packed[:-1], len(stream), layout) is None
    assert read_entries(packed[:0], len(stream), layout) is None
    assert read_entries(packed, len(stream) + 1, layout) is None  # of another JPEG
    other = read_layout(jpeg(noise()))
    assert other is not None
    assert read_entries(packed, len(stream), other) is None
    for at in range(len(packed)):
        damaged = packed.copy()
        damaged[at] ^= 1 << (at % 8)
        assert read_entries(damaged, len(stream), layout) is None, at


def test_of_other_bytes_only_a_header_is_read() -> None:
    """The next file may follow, and be truncated. Here an inaccessible page follows."""
    stream, layout = _wide()
    packed = np.frombuffer(_found(stream).packed(len(stream)), np.uint8)
    readable = Guarded(20, np.uint8, at_end=True).array
    after = np.lib.stride_tricks.as_strided(readable, (len(packed),))
    for at in (0, 12, 16):  # magic, bytes of the JPEG, number
        readable[:] = packed[:20]
        readable[at] ^= 1
        assert read_entries(after, len(stream), layout) is None


def test_numbers_that_are_too_large_are_not_stored() -> None:
    stream, _ = _wide()
    entries = _found(stream)
    for value in (-32769, 32768):
        predictors = entries.predictors.copy()
        predictors[-1, 2] = value
        assert EntryPoints(entries.positions, predictors).packed(len(stream)) == b""
    assert entries.packed(1 << 29) == b""


def test_no_entry_points_lead_out_of_memory() -> None:
    """Any positions and values: pixels, or a damaged scan. The bytes end at an inaccessible
    page."""
    generator = np.random.default_rng(4)
    for kind in ("4:2:0", "restarts", "gray"):
        stream, layout = _wide(**KINDS[kind])
        memory = Guarded(len(stream), np.uint8, at_end=True).array
        memory[:] = stream
        count, outcomes = len(_found(stream).positions), set()
        for _ in range(200):
            most = int(generator.choice([8 * len(stream), 1 << 32]))
            entries = EntryPoints(
                generator.integers(0, most, count), generator.integers(-32768, 32768, (count, 3))
            )
            found = decode_region(memory, layout, (600, 64, 700, 128), 2, entries)
            outcomes.add(found is None)
        assert outcomes == {True, False} or kind == "restarts"


def test_only_sound_files_have_entry_points() -> None:
    generator = np.random.default_rng(3)
    files = [jpeg(noise()[:70, :90], **options) for options in KINDS.values()]
    num_sound = 0
    for k in range(1500):
        stream = mutated(files[k % len(files)], generator)
        assert (find_entries(stream) is not None) == is_sound(stream)
        num_sound += is_sound(stream)
    assert 50 < num_sound < 1450


def test_prep_stores_them_after_large_jpegs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pixels are the same with and without them. The loader finds those of each large sample that
    it decodes at a fraction of its size. Bytes of samples do not change."""
    from slipform.preprocess.prep import prepare

    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
    for number in range(6):
        image = np.tile(np.roll(noise(), 30 * number, axis=1), (5, 4, 1))
        assert image.shape[0] * image.shape[1] >= LARGE_PIXELS
        suffix = "png" if number == 3 else "jpg"  # it is encoded by prep
        Image.fromarray(image).save(tmp_path / "photos" / "a" / f"{number}.{suffix}")
    Image.fromarray(noise()).save(tmp_path / "photos" / "b" / "small.jpg")
    augment = Augmentation(image_size=64, crop="random_resized", normalize="half")
    images, betons, were_found = [], [], list[bool]()

    def read(after: Stream, jpeg_bytes: int, layout: Layout) -> EntryPoints | None:
        found = read_entries(after, jpeg_bytes, layout)
        were_found.append(found is not None)
        return found

    monkeypatch.setattr(scaled, "read_entries", read)
    for check in (True, False):
        out = tmp_path / str(check)
        prepare(
            "images", source=tmp_path / "photos", out=out, no_check=not check, val_fraction=0,
            test_fraction=0,
        )  # fmt: skip
        betons.append(Beton(out / "train.beton"))
        with Loader(out, augment=augment, batch_size=7, executor="host", seed=3) as loader:
            images.append(next(iter(loader)).images.numpy())
        assert len(were_found) >= 3
        assert set(were_found) == {check}
        were_found.clear()
    np.testing.assert_array_equal(*images)
    checked, unchecked = betons
    for index in range(7):
        stream = checked.bytes_of(index)
        np.testing.assert_array_equal(stream, unchecked.bytes_of(index))
        layout, after = read_layout(stream), checked.bytes_after(index)
        assert layout is not None
        assert after is not None
        found = read_entries(after, len(stream), layout)
        is_large = checked.heights[index] * checked.widths[index] >= LARGE_PIXELS
        assert (found is not None) == is_large
        if found is not None:
            want = _found(stream)
            np.testing.assert_array_equal(found.positions, want.positions)
            np.testing.assert_array_equal(found.predictors, want.predictors)
    assert 0 < checked.path.stat().st_size - unchecked.path.stat().st_size < 50_000


@pytest.mark.parametrize("decoded", [False, True])
def test_entries_do_not_depend_on_whether_pixels_are_needed(decoded: bool) -> None:
    stream = jpeg(np.tile(noise(), (5, 4, 1)))
    stored = encode(stream.tobytes(), Encoding(), decoded)
    assert stored.entries == _found(stream).packed(len(stream))
    assert encode(stream.tobytes(), Encoding(check=False), decoded).entries == b""
    assert encode(stream.tobytes(), Encoding("raw"), decoded).entries == b""


def test_entry_points_to_fill_in_fit_the_image() -> None:
    for options in KINDS.values():
        stream, layout = _wide(**options)
        assert len(make_entries(layout).positions) == len(_found(stream).positions)
