"""The beton file: the same bytes for any number of workers, no sample across a page boundary, and
tables in the format of the reader."""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import os
import zlib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from slipform.pipelines.beton import Beton
from slipform.pipelines.beton_format import HEADER, JPG, RAW
from slipform.pipelines.errors import DatasetError
from slipform.pipelines.manifest import read_manifest
from slipform.preprocess.build import build_dataset
from slipform.preprocess.chunk import Chunk
from slipform.preprocess.encode import Encoding
from slipform.preprocess.pixel_sums import PixelSums
from slipform.preprocess.source import Arrays, Generated, SampleSource
from slipform.preprocess.writer import PAGE_SIZE, BetonWriter
from tests.open_files import open_files


def chunk(parts: list[bytes], after: bytes = b"") -> Chunk:
    num = len(parts)
    crc32 = [zlib.crc32(part) for part in parts]
    sizes = [len(part) for part in parts]
    return Chunk(
        b"".join(part + after for part in parts),
        np.zeros(num, np.int64),
        [""] * num,
        sizes,
        [len(after)] * num,
        crc32,
        [9] * num,
        [7] * num,
        [JPG] * num,
        num,
        PixelSums(),
        Counter(),
        [],
        [],
    )


@pytest.mark.parametrize("cut", [1, 3, 7, 40])
def test_no_sample_crosses_a_page_and_chunks_do_not_matter(tmp_path: Path, cut: int) -> None:
    generator = np.random.default_rng(0)
    # Forty samples up to 1.5 MB, and one of 20 MB, larger than a page.
    parts = [generator.bytes(int(size)) for size in generator.integers(1, 1_500_000, 40)]
    parts[25] = generator.bytes(20_000_000)
    writer = BetonWriter(tmp_path / "a.beton", len(parts) + 5)
    for start in range(0, len(parts), cut):
        writer.append(chunk(parts[start : start + cut]))
    info = writer.finish(1)
    digest = writer.seal()
    content = (tmp_path / "a.beton").read_bytes()
    assert digest == hashlib.sha256(content).hexdigest()
    assert info.bytes == len(content)
    page = int(np.frombuffer(content[: HEADER.itemsize], HEADER)[0]["page_size"])
    assert page == PAGE_SIZE * 4
    beton = Beton(tmp_path / "a.beton")
    assert [bytes(beton.bytes_of(i)) for i in range(len(beton))] == parts
    assert (beton.offsets // page == (beton.offsets + beton.sizes - 1) // page).all()
    for index in range(len(beton)):
        beton.check_crc32(index)
    assert content == _whole(tmp_path, parts)


def test_bytes_behind_samples_belong_to_no_sample(tmp_path: Path) -> None:
    """They are in the page of the sample, so readers find the samples as before."""
    generator = np.random.default_rng(1)
    parts = [generator.bytes(int(size)) for size in generator.integers(1, 3_000_000, 12)]
    parts[7] = generator.bytes(PAGE_SIZE - 500)  # with what follows it is larger than a page
    after = generator.bytes(1000)
    writer = BetonWriter(tmp_path / "a.beton", len(parts))
    for start in range(0, len(parts), 5):
        writer.append(chunk(parts[start : start + 5], after))
    writer.finish(1)
    writer.seal()
    beton = Beton(tmp_path / "a.beton")
    page = 2 * PAGE_SIZE
    for index, part in enumerate(parts):
        assert bytes(beton.bytes_of(index)) == part
        found = beton.bytes_after(index)
        assert found is not None
        assert bytes(found[:1000]) == after
        assert beton.offsets[index] // page == (beton.offsets[index] + len(part) + 999) // page


def _whole(folder: Path, parts: list[bytes]) -> bytes:
    writer = BetonWriter(folder / "b.beton", len(parts) + 5)
    writer.append(chunk(parts))
    writer.finish(1)
    writer.seal()
    return (folder / "b.beton").read_bytes()


def source(num: int = 300) -> SampleSource:
    """JPEGs of many sizes; every 50th sample is an array, every 70th PNG."""

    def make(index: int) -> bytes | np.ndarray:
        y, x, c = np.meshgrid(
            np.arange(20 + index % 31), np.arange(25 + index % 17), np.arange(3), indexing="ij"
        )
        pixels = ((x * 4 + y * (c + 1) * 2 + c * 60 + index) % 256).astype(np.uint8)
        if index % 50 == 0:
            return pixels
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG" if index % 70 == 0 else "JPEG")
        return file.getvalue()

    labels = np.arange(num, dtype=np.int64) % 4
    return SampleSource(
        "made",
        list("abcd"),
        {"train": Generated(make, labels, "train"), "test": Generated(make, labels[:40], "test")},
        "",
    )


@pytest.mark.parametrize("mode", ["keep", "jpeg", "raw"])
def test_same_bytes_for_any_number_of_workers(tmp_path: Path, mode: str) -> None:
    folders = [tmp_path / str(workers) for workers in (1, 2, 5)]
    for folder, workers in zip(folders, (1, 2, 5), strict=True):
        build_dataset(source(), folder, Encoding(mode), threads=workers)
    names = sorted(path.name for path in folders[0].iterdir())
    assert names == [
        "dataset.json",
        "report.txt",
        "test.beton",
        "test.crc32.npy",
        "test.names.txt",
        "train.beton",
        "train.crc32.npy",
        "train.names.txt",
    ]
    for name in names:
        assert len({(folder / name).read_bytes() for folder in folders}) == 1, name


def test_the_manifest_matches_the_betons(tmp_path: Path) -> None:
    manifest = build_dataset(source(), tmp_path / "out")
    assert read_manifest(tmp_path / "out") == manifest
    beton = Beton(tmp_path / "out" / "train.beton")
    info = manifest.splits["train"]
    assert (
        info.modes
        == {"jpg": int((beton.modes == JPG).sum()), "raw": int((beton.modes == RAW).sum())}
        == {"jpg": 294, "raw": 6}
    )
    assert (info.min_height, info.max_height, info.min_width, info.max_width) == (20, 50, 25, 41)
    assert info.counts == [75] * 4
    assert manifest.converted == {"not a jpeg": 4}  # 70, 140, 210, 280; 0 is an array; none in test
    # An independent two-pass mean and std over the pixels of the samples.
    made = source().splits["train"]
    pixels = [
        s if isinstance(s := made.read(i), np.ndarray) else np.asarray(Image.open(io.BytesIO(s)))
        for i in range(300)
    ]
    flat = np.concatenate([p.reshape(-1, 3) for p in pixels]) / 255
    np.testing.assert_allclose(manifest.mean, flat.mean(0), rtol=1e-12)
    np.testing.assert_allclose(manifest.std, flat.std(0), rtol=1e-12)


def test_statistics_of_kept_files_are_estimated_and_say_so(tmp_path: Path) -> None:
    exact, checked, unchecked = (
        build_dataset(source(800), tmp_path / "raw", Encoding("raw")),
        build_dataset(source(800), tmp_path / "a"),
        build_dataset(source(800), tmp_path / "b", Encoding(check=False)),
    )
    assert exact.options["statistics"] == "all pixels of train"
    assert checked.options["statistics"] == "one of 3 images of train"
    assert unchecked.options["statistics"] == "one of 7 images of train"
    np.testing.assert_allclose(checked.mean, exact.mean, atol=0.03)
    np.testing.assert_allclose(unchecked.mean, exact.mean, atol=0.05)
    assert (tmp_path / "a/train.beton").read_bytes() == (tmp_path / "b/train.beton").read_bytes()


@pytest.mark.parametrize("layout", ["gray", "planes", "interleaved"])
def test_arrays_in_bulk_equal_arrays_one_by_one(tmp_path: Path, layout: str) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (5000, 12, 10, 3), np.uint8)
    images = {"gray": rgb[..., 0], "planes": rgb.transpose(0, 3, 1, 2).copy(), "interleaved": rgb}[
        layout
    ]
    expected = np.repeat(rgb[..., :1], 3, 3) if layout == "gray" else rgb
    labels = np.arange(5000, dtype=np.int64) % 3
    arrays = Arrays(images, labels, "made")
    assert arrays.size == (10, 12)
    odd = arrays.subset(np.arange(1, 5000, 2)).subset(np.arange(0, 2500, 5))
    manifest = build_dataset(
        SampleSource("made", list("abc"), {"train": arrays, "test": odd}, ""),
        tmp_path / "out",
        Encoding("raw"),
    )
    train, test = Beton(tmp_path / "out/train.beton"), Beton(tmp_path / "out/test.beton")
    for index in (0, 1, 4321, 4999):
        np.testing.assert_array_equal(train.raw(index), expected[index])
        train.check_crc32(index)
    np.testing.assert_array_equal(np.stack([test.raw(i) for i in range(500)]), expected[1::2][::5])
    np.testing.assert_array_equal(test.labels, labels[1::2][::5])
    np.testing.assert_allclose(manifest.mean, expected.reshape(-1, 3).mean(0) / 255, rtol=1e-12)
    assert manifest.splits["train"].modes == {"jpg": 0, "raw": 5000}


def bad_source() -> SampleSource:
    good = source(100).splits["train"]

    def make(index: int) -> bytes | np.ndarray:
        return b"no image" if index in (3, 77) else good.read(index)

    return SampleSource("made", list("abcd"), {"train": Generated(make, good.labels, "made")}, "")


def test_bad_samples_fail_with_a_full_list_and_write_nothing(tmp_path: Path) -> None:
    build_dataset(source(50), tmp_path / "out")
    before = (tmp_path / "out/dataset.json").read_bytes()
    with pytest.raises(DatasetError) as error:
        build_dataset(bad_source(), tmp_path / "out")
    assert "2 samples" in error.value.message
    assert "made:3" in error.value.message
    assert "made:77" in error.value.message
    assert (tmp_path / "out/dataset.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_bad_samples_are_left_out_and_listed(tmp_path: Path) -> None:
    manifest = build_dataset(bad_source(), tmp_path / "out", on_bad="skip")
    assert manifest.rejected == 2
    beton = Beton(tmp_path / "out/train.beton")
    np.testing.assert_array_equal(beton.labels, np.delete(np.arange(100) % 4, [3, 77]))
    with open(tmp_path / "out/rejected.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["split"], row["index_in_source"], row["label"], row["name"]) for row in rows] == [
        ("train", "3", "3", "made:3"),
        ("train", "77", "1", "made:77"),
    ]
    assert (
        json.loads((tmp_path / "out/dataset.json").read_text())["splits"]["train"]["num_samples"]
        == 98
    )


def _no_seal(submit: Callable[..., Any]) -> Callable[..., Any]:
    """A pool that cannot start the last step."""

    def refuses(pool: Any, call: Callable[..., Any], *arguments: Any) -> Any:
        if getattr(call, "__name__", "") == "seal":
            raise RuntimeError("can't start new thread")
        return submit(pool, call, *arguments)

    return refuses


def _no_fsync(ending: str) -> Callable[[int], None]:
    """A disk that fails when files with an ending are flushed to it."""
    fsync = os.fsync

    def fails(file: int) -> None:
        if os.readlink(f"/proc/self/fd/{file}").endswith(ending):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(file)

    return fails


@pytest.mark.parametrize("fails", ["train.crc32.npy", "train.beton", "submit"])
def test_no_file_stays_open_after_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    """Nor while the error is kept, which has references to the writers."""
    with monkeypatch.context() as patch:
        if fails == "submit":
            patch.setattr(ThreadPoolExecutor, "submit", _no_seal(ThreadPoolExecutor.submit))
        else:
            patch.setattr(os, "fsync", _no_fsync(fails))
        with pytest.raises((OSError, RuntimeError)) as error:
            build_dataset(source(20), tmp_path / "out")
    assert error.value.args[0] in (errno.EIO, "can't start new thread")
    assert not open_files(tmp_path)
