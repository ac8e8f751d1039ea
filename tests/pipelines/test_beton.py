"""The reader: every truncated, foreign or altered file gives a DatasetError or a right result. None
ends the process."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipform.pipelines import mapped_files
from slipform.pipelines.beton import Beton
from slipform.pipelines.beton_format import DESCRIPTOR, HEADER, JPG, RAW
from slipform.pipelines.checksums import crc32_path, read_crc32
from slipform.pipelines.decoding.jpeg_header import header_size
from slipform.pipelines.errors import DatasetError, SampleError
from slipform.pipelines.manifest import read_manifest
from slipform.pipelines.mapped_files import MappedFiles
from tests.pipelines import folders

METADATA_START = HEADER.itemsize + 2 * DESCRIPTOR.itemsize


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Three samples: raw, JPEG, raw."""
    images = [folders.noise(3, 5), folders.jpeg(folders.smooth(20, 30)), folders.noise(1, 1)]
    return Path(folders.write_folder(tmp_path / "set", images, [2, 0, 1])) / "train.beton"


def test_the_arrays_of_a_beton(path: Path) -> None:
    beton = Beton(path)
    assert len(beton) == 3
    assert beton.labels.tolist() == [2, 0, 1]
    assert beton.modes.tolist() == [RAW, JPG, RAW]
    assert (beton.heights.tolist(), beton.widths.tolist()) == ([3, 20, 1], [5, 30, 1])
    np.testing.assert_array_equal(beton.raw(0), folders.noise(3, 5))
    assert beton.bytes_of(1).tobytes() == folders.jpeg(folders.smooth(20, 30))
    assert beton.resident_bytes() == 3 * (15 + 600 + 1)
    assert not beton.data.flags.writeable
    for index in range(3):
        beton.check_crc32(index)


def test_released_pages_leave_memory_and_views_stay_valid(tmp_path: Path) -> None:
    images = [folders.noise(200, 300, seed=i) for i in range(8)]
    path = Path(folders.write_folder(tmp_path / "set", images, list(range(8)))) / "train.beton"

    def mapped_kib() -> int:
        parts = Path("/proc/self/smaps").read_text().split(f"{path}\n")[1:]
        return sum(int(re.findall(r"Rss:\s+(\d+)", part)[0]) for part in parts)

    beton = Beton(path)
    views = [beton.raw(i) for i in range(8)]
    before = [view.copy() for view in views]
    assert mapped_kib() > 8 * 150
    beton.release_pages()
    assert mapped_kib() == 0
    for view, expected in zip(views, before, strict=True):
        np.testing.assert_array_equal(view, expected)


def test_few_pages_stay_mapped_while_samples_are_streamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are removed only if there may be more of them than the limit."""
    images = [folders.noise(200, 300, seed=i) for i in range(8)]  # 180 kB each
    path = Path(folders.write_folder(tmp_path / "set", images, list(range(8)))) / "train.beton"
    removed: list[int] = []
    release = MappedFiles.release_pages

    def counted(files: MappedFiles) -> None:
        if files is beton._files:  # and not a beton that a thread of another test reads
            removed.append(1)
        release(files)

    beton = Beton(path)
    monkeypatch.setattr(MappedFiles, "release_pages", counted)

    def read_all() -> int:
        removed.clear()
        for index in range(8):
            beton.limit_pages(np.array([index]))
            np.testing.assert_array_equal(beton.raw(index), images[index])
        return len(removed)

    assert read_all() == 0, "the file is smaller than the limit"
    # Two images of 180 kB, and 64 KiB around each.
    monkeypatch.setattr(mapped_files, "_MOST_MAPPED", 500_000)
    assert read_all() == 3
    assert read_all() == 4
    beton.limit_pages(np.arange(8))  # more at once than the limit: removed before
    assert len(removed) == 5


def test_every_truncation_is_noticed(path: Path) -> None:
    """At each byte of the header, descriptors, metadata, data and table."""
    data = path.read_bytes()
    table = int(np.frombuffer(data, HEADER, 1)[0]["alloc_table_ptr"])
    lengths = {
        *range(64),
        *range(METADATA_START - 3, METADATA_START + 100),
        *range(table - 30, len(data)),
        *range(0, len(data), 97),
    }
    for length in sorted(lengths):
        path.write_bytes(data[:length])
        with pytest.raises(DatasetError, match=r"train\.beton"):
            Beton(path)
    for more in (1, 23, 24, 48):
        path.write_bytes(data + bytes(more))
        with pytest.raises(DatasetError):
            Beton(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"\x00", bytes(10_000), b"\xff" * 10_000, b"PK\x03\x04" * 3000, b"RIFF" + bytes(5000)],
)
def test_foreign_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.beton").write_bytes(content)
    with pytest.raises(DatasetError, match=r"x\.beton is no"):
        Beton(tmp_path / "x.beton")


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="Run prep first"):
        Beton(tmp_path / "x.beton")
    with pytest.raises(DatasetError, match="is a folder, not a regular file"):
        Beton(tmp_path)
    with pytest.raises(DatasetError, match=r"holds no dataset\.json"):
        read_manifest(tmp_path)
    (tmp_path / "dataset.json").write_text('{"version": 1}')
    with pytest.raises(DatasetError, match="is damaged"):
        read_manifest(tmp_path)


@given(st.data())
@settings(max_examples=60)
def test_altered_headers_and_tables_are_refused_or_harmless(
    path: Path, data: st.DataObject
) -> None:
    """Up to four bytes are changed outside of the images. The result is an error, or samples within
    the file."""
    folders.write_folder(
        path.parent,
        [folders.noise(3, 5), folders.jpeg(folders.smooth(20, 30)), folders.noise(1, 1)],
        [2, 0, 1],
    )
    content = bytearray(path.read_bytes())
    table = int(np.frombuffer(content, HEADER, 1)[0]["alloc_table_ptr"])
    places = st.one_of(
        st.integers(0, HEADER.itemsize - 1),
        st.sampled_from([HEADER.itemsize, HEADER.itemsize + DESCRIPTOR.itemsize]),
        st.integers(METADATA_START, METADATA_START + 95),
        st.integers(table, len(content) - 1),
    )
    for at in data.draw(st.lists(places, min_size=1, max_size=4)):
        content[at] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        beton = Beton(path)
    except DatasetError:
        return
    for index in range(len(beton)):
        stored = beton.bytes_of(index)
        assert len(stored) == beton.sizes[index] > 0
        assert beton.labels[index] >= 0
        if beton.modes[index] == RAW:
            assert beton.raw(index).shape == (beton.heights[index], beton.widths[index], 3)
            int(beton.raw(index).sum())


def test_a_sample_whose_bytes_changed_is_named(path: Path) -> None:
    start = int(Beton(path).offsets[1])
    content = bytearray(path.read_bytes())
    content[start + 300] ^= 1
    path.write_bytes(content)
    beton = Beton(path)
    beton.check_crc32(0)
    with pytest.raises(SampleError, match="sample 1 of") as caught:
        beton.check_crc32(1)
    assert (caught.value.index, caught.value.label) == (1, 0)


def test_checksum_files(path: Path) -> None:
    """No table: nothing is compared, as for betons of stock ffcv. A damaged or foreign table is an
    error."""
    np.save(crc32_path(path), np.zeros(2, np.uint32))
    with pytest.raises(DatasetError, match=r"expected uint32 \(3,\)"):
        Beton(path).check_crc32(0)
    crc32_path(path).write_bytes(b"\x93NUMPY no")
    with pytest.raises(DatasetError, match="is damaged"):
        Beton(path).check_crc32(0)
    crc32_path(path).unlink()
    Beton(path).check_crc32(0)
    assert read_crc32(path, 3).size == 0


@pytest.mark.parametrize(
    "options",
    [{}, {"progressive": True}, {"subsampling": 0}, {"quality": 5}, {"restart_marker_rows": 1}],
)
def test_jpeg_headers(options: dict[str, int]) -> None:
    stream = np.frombuffer(folders.jpeg(folders.smooth(33, 70), **options), np.uint8)
    assert header_size(stream) == (33, 70)
    scan = int(np.flatnonzero((stream[:-1] == 0xFF) & (stream[1:] == 0xDA))[0])
    for length in range(scan + 4):
        assert header_size(stream[:length]) == (0, 0)
    assert header_size(stream[1:]) == (0, 0)


@given(data=st.binary(max_size=60))
def test_any_bytes_give_a_size_or_none(data: bytes) -> None:
    header_size(np.frombuffer(b"\xff\xd8" + data, np.uint8))
