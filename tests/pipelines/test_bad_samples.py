"""Damaged samples in a loader are named in an error, or skipped and counted. No other sample is
lost."""

from __future__ import annotations

import ctypes
import shutil
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slipform.pipelines.beton import Beton
from slipform.pipelines.checksums import crc32_path, index_sha256
from slipform.pipelines.decoding.integrity import FirstRead
from slipform.pipelines.decoding.preload import decode_all
from slipform.pipelines.errors import SampleError
from slipform.pipelines.loader import Loader
from slipform.pipelines.manifest import read_manifest, write_manifest
from tests.pipelines.epochs import ON_CPU as NAMES
from tests.pipelines.epochs import Epoch, assert_same, open_loader, read_epoch, small_loader
from tests.pipelines.folders import jpeg, noise, write_folder


@pytest.fixture(scope="module")
def whole(shapes: Path) -> list[Epoch]:
    """Two epochs without interruption."""
    with open_loader(shapes) as loader:
        return [read_epoch(loader), read_epoch(loader)]


def _copy(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to))


def _damage(folder: Path, index: int, *, matching_crc: bool) -> int:
    """Invert the middle bytes of a sample. With a matching CRC only the decoder can find this.
    Returns its class."""
    beton = Beton(folder / "train.beton")
    start, size, label = (
        int(beton.offsets[index]),
        int(beton.sizes[index]),
        int(beton.labels[index]),
    )
    with open(folder / "train.beton", "r+b") as file:
        file.seek(start if matching_crc else start + size // 2)
        file.write(bytes(20) if matching_crc else bytes([255 ^ beton.bytes_of(index)[size // 2]]))
    if matching_crc:
        crcs = np.load(crc32_path(folder / "train.beton"))
        crcs[index] = zlib.crc32(Beton(folder / "train.beton").bytes_of(index))
        np.save(crc32_path(folder / "train.beton"), crcs)
        manifest = read_manifest(folder)
        info = manifest.split("train").model_copy(
            update={"index_sha256": index_sha256(beton.labels, crcs)}
        )
        splits = {**manifest.splits, "train": info}
        write_manifest(folder, manifest.model_copy(update={"splits": splits}))
    return label


def _read_an_epoch(folder: Path, executor: str) -> None:
    with open_loader(folder, executor) as loader:
        read_epoch(loader)


@pytest.mark.parametrize("executor", NAMES)
@pytest.mark.parametrize("kind", ["a turned byte", "no JPEG"])
def test_a_damaged_sample_is_named(shapes: Path, tmp_path: Path, executor: str, kind: str) -> None:
    folder = _copy(shapes, tmp_path / "damaged")
    label = _damage(folder, 77, matching_crc=kind == "no JPEG")
    with pytest.raises(SampleError, match="sample 77 ") as caught:
        _read_an_epoch(folder, executor)
    assert (caught.value.index, caught.value.label) == (77, label)
    assert "prep verify" in str(caught.value)


def _note(loader: Loader, seen: list[int]) -> None:
    for batch in loader:
        seen += batch.indices.tolist()


@pytest.mark.parametrize("executor", ["dali", "host"])  # resident reads all before the first batch
def test_after_a_damaged_sample_the_position_is_before_its_batch(
    shapes: Path, tmp_path: Path, executor: str
) -> None:
    """The next call raises again. A loader that skips continues there, and no other sample is
    lost."""
    folder = _copy(shapes, tmp_path / "damaged")
    _damage(folder, 77, matching_crc=True)
    seen: list[int] = []
    with open_loader(folder, executor, 16) as loader:
        for _ in range(2):
            with pytest.raises(SampleError, match="sample 77 "):
                _note(loader, seen)
        position = loader.state_dict()
    assert 77 not in seen
    assert position["seen"] == len(seen) < 240
    with open_loader(folder, executor, 16, on_bad="skip") as loader:
        loader.load_state_dict(position)
        _note(loader, seen)
    assert sorted(seen) == list(range(240))


@pytest.mark.parametrize("executor", NAMES)
@pytest.mark.parametrize("kind", ["a turned byte", "no JPEG"])
@pytest.mark.parametrize("batch_size", [20, 120])  # a batch of one part and of several parts
def test_a_damaged_sample_is_skipped_and_counted(
    shapes: Path, tmp_path: Path, whole: Any, executor: str, kind: str, batch_size: int
) -> None:
    """Two damaged samples: their labels are masked, the other samples do not change, and each epoch
    counts them."""
    folder = _copy(shapes, tmp_path / "damaged")
    for index in (0, 77):
        _damage(folder, index, matching_crc=kind == "no JPEG")
    with open_loader(folder, executor, batch_size, on_bad="skip") as loader:
        for epoch in range(2):
            got = read_epoch(loader)
            assert [index for index, (label, _) in got.items() if label == -100] == [
                i for i in got if i in (0, 77)
            ]
            good = {index: value for index, value in got.items() if index not in (0, 77)}
            assert_same(
                good, {index: value for index, value in whole[epoch].items() if index in good}
            )
            assert loader.num_bad == 2 * (epoch + 1) == loader.stats()["num_bad"]
        assert all(np.isfinite(image).all() for _, image in got.values())


@pytest.mark.parametrize("executor", NAMES)
def test_padding_is_no_bad_sample(shapes: Path, tmp_path: Path, executor: str) -> None:
    """Padding is rendered from sample 0. A damaged sample 0 counts once."""
    folder = _copy(shapes, tmp_path / "damaged")
    _damage(folder, 0, matching_crc=False)
    with open_loader(folder, executor, 100, training=False, on_bad="skip") as loader:
        assert len(read_epoch(loader)) == 240
        assert loader.num_bad == 1


@pytest.mark.parametrize("executor", NAMES)
@pytest.mark.parametrize("stored", ["raw", "jpeg"])
def test_a_damaged_sample_is_black(tmp_path: Path, executor: str, stored: str) -> None:
    """Also if its bytes could be decoded: all executors give the same batch."""
    images: list[Any] = [noise(20, 24, seed=k) for k in range(3)]
    folder = write_folder(tmp_path, images if stored == "raw" else [*map(jpeg, images)])
    table = crc32_path(folder / "train.beton")
    crcs = np.load(table)
    crcs[1] += 1
    np.save(table, crcs)
    with small_loader(folder, executor, on_bad="skip") as loader:
        (batch,) = loader
    assert batch.labels.tolist() == [0, -100, 2, -100]  # the last one is padding
    assert (batch.images[1] + 1).abs().max() < 1e-5  # -1 is black
    assert (batch.images[0] + 1).abs().mean() > 0.5


@pytest.mark.parametrize("one_buffer", [False, True])
def test_damaged_pixels_in_memory_are_black(tmp_path: Path, one_buffer: bool) -> None:
    """Raw and JPEG side by side, in the mapped file and in one buffer, as for a GPU."""
    images = [noise(9, 11, 1), noise(30, 10, 2), jpeg(noise(16, 16, 3)), jpeg(noise(8, 24, 4))]
    folder = write_folder(tmp_path, images)
    table = crc32_path(folder / "train.beton")
    np.save(table, np.load(table) + np.array([0, 1, 0, 1], np.uint32))
    beton = Beton(folder / "train.beton")
    decoded = decode_all(beton, 1, FirstRead(beton, "skip"), one_buffer=one_buffer)
    assert decoded.bad.tolist() == [False, True, False, True]
    for address, height, width, is_bad in zip(
        decoded.addresses.tolist(), beton.heights, beton.widths, decoded.bad, strict=True
    ):
        pixels = ctypes.string_at(address, int(height) * int(width) * 3)
        assert any(pixels) != is_bad
