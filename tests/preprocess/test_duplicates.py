"""`prep verify` finds images that are in two splits, equal or almost equal, and no others."""

from __future__ import annotations

import csv
import io
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import PIL.Image
import pytest
from click.testing import CliRunner
from scipy.fft import dctn

from slipform.pipelines.beton import Beton
from slipform.pipelines.checksums import crc32_path
from slipform.pipelines.label_table import LabelTable
from slipform.pipelines.manifest import read_manifest
from slipform.preprocess import duplicates
from slipform.preprocess.build import build_dataset
from slipform.preprocess.cli import main
from slipform.preprocess.duplicates import Duplicate, find_duplicates, perceptual_hashes
from slipform.preprocess.source import Arrays, SampleSource

Pixels = npt.NDArray[np.uint8]
SIDE = 64


def _scene(seed: int) -> Pixels:
    """Smooth blobs of color, as in a photo."""
    noise = np.random.default_rng(seed).random((8, 8, 3)).astype(np.float32)
    return np.asarray(
        cv2.resize(noise, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC) * 200, np.uint8
    )


def _jpeg(image: Pixels) -> Pixels:
    file = io.BytesIO()
    PIL.Image.fromarray(image).save(file, "JPEG", quality=40)
    return np.asarray(PIL.Image.open(file).convert("RGB"))


def _small(image: Pixels) -> Pixels:
    half = cv2.resize(image, (SIDE // 2, SIDE // 2), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(half, (SIDE, SIDE)), np.uint8)


CHANGES: dict[str, Callable[[Pixels], Pixels]] = {
    "compressed": _jpeg,
    "resized": _small,
    "darker": lambda image: (image * 0.8).astype(np.uint8),
    "cropped": lambda image: np.asarray(cv2.resize(image[1:, 1:], (SIDE, SIDE)), np.uint8),
}


def _dataset(out: Path, **splits: tuple[list[Pixels], list[int]]) -> Path:
    arrays = {
        name: Arrays(np.stack(images), np.array(labels, np.int64), name)
        for name, (images, labels) in splits.items()
    }
    build_dataset(SampleSource("scenes", ["a", "b"], arrays, ""), out)
    return out


def _find(folder: Path, near: bool = True) -> list[Duplicate]:
    return find_duplicates(folder, read_manifest(folder), near=near, threads=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train has 40 scenes; val has 3 of them and one of its own; test has 4 changed ones, one of
    val, and 20 of its own."""
    train = [_scene(k) for k in range(40)]
    val = [_scene(100), train[7], train[3], train[7]]
    test = [change(train[10 + k]) for k, change in enumerate(CHANGES.values())]
    test += [_scene(100), *(_scene(200 + k) for k in range(20))]
    labels = [k % 2 for k in range(40)]
    return _dataset(
        tmp_path_factory.mktemp("scenes") / "data",
        train=(train, labels),
        val=(val, [0, 1, 0, 1]),
        test=(test, [0, 1, 0, 1, 0, *[0] * 20]),
    )


def test_equal_images_of_other_splits(folder: Path) -> None:
    found = _find(folder, near=False)
    assert [(x.split, x.index, x.other, x.other_index, x.classes) for x in found] == [
        ("val", 1, "train", 7, ((1,), (1,))),
        ("val", 2, "train", 3, ((0,), (1,))),
        ("val", 3, "train", 7, ((1,), (1,))),
        ("test", 4, "val", 0, ((0,), (0,))),
    ]
    assert all(x.exact and x.similarity == 1 for x in found)


def test_almost_equal_images_of_other_splits(folder: Path) -> None:
    found = {(x.split, x.index): x for x in _find(folder)}
    assert [key for key, x in found.items() if x.exact] == [
        ("val", 1), ("val", 2), ("val", 3), ("test", 4),
    ]  # fmt: skip
    near = {key: x for key, x in found.items() if not x.exact}
    assert sorted(near) == [("test", k) for k in range(len(CHANGES))]
    for k in range(len(CHANGES)):
        assert (near["test", k].other, near["test", k].other_index) == ("train", 10 + k)
        assert 0.9 <= near["test", k].similarity < 1 + 1e-9


def test_all_classes_of_an_image_with_several_labels(tmp_path: Path) -> None:
    """The beton has the first one of them, and class 0 for an image without labels."""
    images = [_scene(k) for k in range(3)]
    sets: dict[str, list[list[int]]] = {
        "train": [[0, 2], [1], [0]], "val": [[0, 2], [1, 2], []]
    }  # fmt: skip
    splits = {}
    for name, labels in sets.items():
        table = LabelTable.of_sets(labels)
        splits[name] = Arrays(np.stack(images), table.first(), name, table=table)
    build_dataset(SampleSource("scenes", ["a", "b", "c"], splits, ""), tmp_path / "data")
    out = tmp_path / "found.csv"
    result = CliRunner().invoke(main, ["verify", str(tmp_path / "data"), "--csv", str(out)])
    assert "3 of them byte for byte; with another class there: 2" in result.output
    rows = list(csv.DictReader(io.StringIO(out.read_text())))
    assert [(row["class"], row["other_class"]) for row in rows] == [
        ("a + c", "a + c"), ("b + c", "b"), ("no label", "a"),
    ]  # fmt: skip


def test_images_with_the_same_checksum_are_compared(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicates, "_crc32", lambda beton: np.ones(len(beton), np.uint32))
    assert len(_find(folder, near=False)) == 4


def test_a_beton_without_checksums(folder: Path, tmp_path: Path) -> None:
    expected = _find(folder, near=False)
    for name in ("train", "val", "test"):
        source = folder / f"{name}.beton"
        (tmp_path / source.name).write_bytes(source.read_bytes())
        assert not crc32_path(tmp_path / source.name).exists()
    found = find_duplicates(tmp_path, read_manifest(folder), near=False)
    assert found == expected


def test_the_hash_is_that_of_the_lowest_frequencies() -> None:
    images = np.stack([_scene(k)[::2, ::2, 0] for k in range(20)])
    hashes = perceptual_hashes(images)
    for image, value in zip(images, hashes, strict=True):
        low = dctn(image.astype(np.float64), type=2)[:8, :8]
        # scipy's DCT is twice as large along each axis; the order of the values is the same.
        bits = low > np.median(low)
        assert np.array_equal(np.unpackbits(np.array([value], ">u8").view(np.uint8)), bits.ravel())


def test_blank_images_of_other_values_are_not_similar(tmp_path: Path) -> None:
    gray = [np.full((SIDE, SIDE, 3), value, np.uint8) for value in (10, 90, 200)]
    data = _dataset(tmp_path / "data", train=(gray[:2], [0, 1]), test=([gray[2], gray[0]], [0, 1]))
    (found,) = _find(data)
    assert found.exact
    assert (found.index, found.other_index) == (1, 0)


def test_the_image_with_the_nearest_hash_need_not_be_the_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, copied = _scene(1), _scene(2)
    hashes = iter(np.array([0b1, 0b111, 0b0], np.uint64))  # of other, copied, and its copy
    monkeypatch.setattr(
        duplicates, "perceptual_hashes", lambda images: np.array([next(hashes) for _ in images])
    )
    folder = _dataset(
        tmp_path / "data", train=([other, copied], [0, 1]), val=([_jpeg(copied)], [1])
    )
    (found,) = _find(folder)
    assert (found.other, found.other_index, found.exact) == ("train", 1, False)


def test_an_undecodable_image_is_no_duplicate(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = duplicates._small

    def fails(beton: Beton, index: int) -> npt.NDArray[np.uint8] | None:
        file, place = beton.place(index)
        return None if (file.stem, place) == ("train", 10) else original(beton, index)

    monkeypatch.setattr(duplicates, "_small", fails)
    near = [x for x in _find(folder) if not x.exact]
    assert sorted(x.index for x in near) == [1, 2, 3]


def test_comparing_with_a_million_images_needs_little_memory() -> None:
    known = np.random.default_rng(0).integers(0, 1 << 63, 1_000_000).astype(np.uint64)
    own = known[::20_000] ^ np.uint64(5)
    tracemalloc.start()
    places = duplicates._nearest(known, own)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [found[0] for found in places] == list(range(0, 1_000_000, 20_000))
    assert peak < 20 << 20


def test_the_command(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "found.csv"
    result = CliRunner().invoke(main, ["verify", str(folder), "--csv", str(out)])
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0].endswith("69 samples, no fault")
    assert "val sample 2" in lines[2]
    assert "a) equals train sample 3 (" in lines[2]
    assert lines[-1] == (
        "8 images of later splits also in an earlier one, 4 of them byte for byte; with another"
        " class there: 1"
    )
    rows = list(csv.DictReader(io.StringIO(out.read_text())))
    assert len(rows) == 8
    assert rows[1]["class"] == "a"
    assert rows[1]["other_class"] == "b"
    assert (rows[1]["exact"], rows[1]["similarity"]) == ("True", "1.0")
    quiet = CliRunner().invoke(main, ["verify", str(folder), "--duplicates", "none"])
    assert quiet.output.splitlines() == lines[:1]
    refused = CliRunner().invoke(
        main, ["verify", str(folder), "--duplicates", "none", "--csv", str(out)]
    )
    assert refused.exit_code == 2
    assert "--csv has the duplicates" in refused.output
