"""All files in a dataset folder and the cache, damaged in many ways: a right result or a
SlipformError, in little memory."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slipform.pipelines.beton import Beton
from slipform.pipelines.checksums import crc32_path, read_crc32
from slipform.pipelines.dataset import open_dataset
from slipform.pipelines.errors import ConfigError, DatasetError, SampleError, SlipformError
from slipform.pipelines.manifest import FILE_NAME, read_manifest
from slipform.pipelines.profile import profile_path, read_profile, write_profile
from tests.pipelines import folders
from tests.pipelines.epochs import ON_CPU as NAMES
from tests.pipelines.epochs import small_loader


def _mutations(content: bytes, count: int, seed: int) -> list[bytes]:
    """Flip bits; replace, remove or repeat bytes; set numbers to huge values."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        data, at = bytearray(content), int(random.integers(max(len(content), 1)))
        kind = random.integers(5)
        if kind == 0:
            data[at] ^= 1 << int(random.integers(8))
        elif kind == 1:
            data[at : at + 8] = random.integers(0, 256, 8, np.uint8).tobytes()
        elif kind == 2:
            del data[at:]
        elif kind == 3:
            data[at:at] = data[at : at + 40]
        else:
            data[at : at + 8] = b"\xff" * int(random.integers(1, 9))
        found.append(bytes(data))
    return found


HOSTILE = [
    b"",
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"null",
    b"[]",
    b"1e999",
    b"\xff\xfe",
    b'{"version": "1"}',
    b"9" * 10_000,
]


def test_a_manifest(folder: Path) -> None:
    path = folder / FILE_NAME
    whole = path.read_bytes()
    values: tuple[Any, ...] = (
        None,
        3,
        "x",
        [],
        {},
        [None],
        {"train": 1},
        [[]],
        float("nan"),
        True,
        10**400,
    )
    wrong = [
        json.dumps(json.loads(whole) | {key: value}).encode()
        for key in json.loads(whole)
        for value in values
    ]
    for content in (*HOSTILE, *wrong, *_mutations(whole, 300, 1)):
        path.write_bytes(content)
        try:
            manifest = read_manifest(folder)
            open_dataset(folder).beton("train")
        except SlipformError:
            continue
        assert len(manifest.mean) == 3


def test_a_table_of_checksums(folder: Path) -> None:
    path = crc32_path(folder / "train.beton")
    whole = path.read_bytes()
    for content in (*HOSTILE, *_mutations(whole, 600, 2), *_mutations(whole[:128], 600, 3)):
        path.write_bytes(content)
        try:
            table = read_crc32(folder / "train.beton", 12)
        except DatasetError:
            continue
        assert table.shape == (12,)
        assert table.dtype == np.uint32
    np.save(path, np.array([object()] * 12), allow_pickle=True)
    with pytest.raises(DatasetError, match="damaged"):
        read_crc32(folder / "train.beton", 12)


def test_a_beton(folder: Path) -> None:
    path = folder / "train.beton"
    whole = path.read_bytes()
    for content in (*HOSTILE, *_mutations(whole, 250, 4), *_mutations(whole[:2600], 250, 5)):
        path.write_bytes(content)
        try:
            beton = Beton(path)
        except DatasetError:
            continue
        for index in range(len(beton)):
            assert len(beton.bytes_of(index)) == beton.sizes[index]


def test_a_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    write_profile(profile_path(), "key", {"executor": "host", "threads": 2, "prefetch": 3})
    whole = profile_path().read_bytes()
    values: list[Any] = [None, [], {}, "x", -1, 2.5, True, 10**12]
    wrong = [
        json.dumps({"version": 1, "profiles": {"key": {name: value}}}).encode()
        for name in ("executor", "threads", "prefetch")
        for value in values
    ]
    wrong += [json.dumps({"version": 1, "profiles": value}).encode() for value in values]
    for content in (*HOSTILE, *wrong, *_mutations(whole, 400, 6)):
        profile_path().write_bytes(content)
        found = read_profile("key")
        assert isinstance(found.get("executor", ""), str)
        for name in ("threads", "prefetch"):
            assert 0 <= found.get(name, 0) <= 4096


@pytest.mark.parametrize("name", ["train.beton", "train.crc32.npy", FILE_NAME])
def test_files_that_are_not_regular(folder: Path, name: str) -> None:
    """A FIFO would block, and a device has no end. The errors name these, a folder, and a broken
    link."""
    path = folder / name
    for make in (
        lambda: os.mkfifo(path),
        lambda: path.symlink_to("/dev/zero"),
        path.mkdir,
    ):
        path.unlink() if path.exists() or path.is_symlink() else None
        make()
        with pytest.raises(DatasetError, match="not a regular file"):
            small_loader(folder)
        path.rmdir() if path.is_dir() else path.unlink()


def test_labels_and_counts_must_fit_the_manifest(tmp_path: Path) -> None:
    images = [folders.noise(4, 4, seed=k) for k in range(3)]
    with pytest.raises(DatasetError, match=r"sample 1 .* label 3, but .* 3 classes"):
        small_loader(folders.write_folder(tmp_path / "labels", images, [0, 3, 1]))
    other = folders.write_folder(tmp_path / "other", images[:2], [0, 1])
    shutil.copy(other / "train.beton", tmp_path / "labels" / "train.beton")
    with pytest.raises(DatasetError, match=r"2 samples, dataset\.json says 3"):
        open_dataset(tmp_path / "labels").beton("train")
    outside = json.loads((other / FILE_NAME).read_text())
    outside["splits"]["train"]["file"] = "../labels/train.beton"
    (other / FILE_NAME).write_text(json.dumps(outside))
    with pytest.raises(DatasetError, match="not a file in"):
        small_loader(other)


@pytest.mark.parametrize("executor", ["dali", "host"])
def test_a_dataset_replaced_while_open_is_not_called_damaged(
    folder: Path, tmp_path: Path, executor: str
) -> None:
    """After a rename, as by prep, the old dataset is read to its end. An error reports a file that
    was overwritten in place."""
    images = [folders.jpeg(folders.noise(30, 20 + k, seed=k)) for k in range(12)]
    other = Path(folders.write_folder(tmp_path / "other", images))
    with small_loader(folder, executor) as loader:
        for file in other.iterdir():
            os.replace(shutil.copy(file, tmp_path), folder / file.name)
        assert sum(len(batch) for batch in loader) == 12
    with small_loader(folder, executor, prefetch=1) as loader:
        loop = iter(loader)
        next(loop)
        beton = Beton(folder / "train.beton")
        with open(folder / "train.beton", "r+b") as opened:
            opened.seek(int(beton.offsets[4]) + 200)
            opened.write(bytes(range(200)))
        os.utime(folder / "train.beton", ns=(1, 1))
        with pytest.raises(DatasetError, match="replaced or changed while it was open"):
            next(loop)


@pytest.mark.parametrize("executor", NAMES)
@pytest.mark.parametrize("says_so_too", [False, True])
def test_a_small_jpeg_that_declares_a_huge_image(
    tmp_path: Path, executor: str, says_so_too: bool
) -> None:
    """16,000 x 16,000 pixels would take 734 MiB. The JPEG is refused before it is decoded and
    before memory is allocated, with the right or a wrong size in the beton."""
    small = bytearray(folders.jpeg(folders.smooth(30, 20)))
    at = small.index(b"\xff\xc0") + 5
    small[at : at + 4] = (16_000).to_bytes(2, "big") * 2
    size = (16_000, 16_000) if says_so_too else (30, 20)
    images = [folders.jpeg(folders.smooth(30, 20)), bytes(small)]
    folder = folders.write_folder(tmp_path / "set", images, [0, 1], [(30, 20), size])
    found = {True: "more pixels than its bytes can hold", False: "declare 16000 x 16000 pixels"}
    with (
        pytest.raises((DatasetError, SampleError), match=found[says_so_too]),
        small_loader(folder, executor) as loader,
    ):
        next(iter(loader))


def test_resident_says_that_the_memory_is_too_small(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slipform.pipelines.decoding.preload.free_memory_bytes", lambda: 1000)
    with pytest.raises(ConfigError, match=r"take [\d,]+ bytes, and 1,000 are free.*host"):
        small_loader(folder, "resident")


def test_open_dataset(shapes: Path, shapes_raw: Path) -> None:
    """The images are the stored ones, for JPEGs and raw pixels."""
    for folder in (shapes, shapes_raw):
        data = open_dataset(folder)
        assert data.splits == ["train", "val", "test"]
        assert "train 240" in repr(data)
        beton = data.beton("val")
        for index in (0, 59):
            image = data.image("val", index)
            assert image.shape == (beton.heights[index], beton.widths[index], 3)
            assert image.std() > 1
            assert 0 <= data.label("val", index) < len(data.classes)
        with pytest.raises(SlipformError, match="samples 0 to 59"):
            data.image("val", 60)
    raw = open_dataset(shapes_raw)
    np.testing.assert_array_equal(raw.image("val", 7), raw.beton("val").raw(7))
    with pytest.raises(DatasetError, match="no split"):
        raw.image("vall", 0)
