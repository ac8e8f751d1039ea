"""Tars that zstd compressed: WebDataset's, and archives of folders of classes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from slipform.pipelines.errors import DatasetError
from slipform.preprocess import compressed
from slipform.preprocess.archive import unpack
from slipform.preprocess.compressed import blocks
from tests.preprocess.layouts.test_fuzz_layouts import check_mutations
from tests.preprocess.layouts.test_webdataset import ANIMALS, expected, samples, tar
from tests.preprocess.sources import jpeg, prep, stored, write
from tests.preprocess.test_fuzz_archives import HOSTILE_TARS, hostile_tar

SKIPPABLE = b"\x50\x2a\x4d\x18\x04\0\0\0pzst"  # pzstd writes one before each frame


@pytest.fixture(autouse=True)
def packages(request: pytest.FixtureRequest, needs: Callable[[str], None]) -> None:
    needs("zstandard")


def zst(data: bytes, **options: int) -> bytes:
    import zstandard

    made = zstandard.ZstdCompressionParameters.from_level(3, write_checksum=1, **options)
    packer = zstandard.ZstdCompressor(compression_params=made).compressobj()
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize("before", [b"", SKIPPABLE])
def test_webdataset(tmp_path: Path, before: bytes) -> None:
    raw = tmp_path / "raw"
    write(raw / "train-0.tar.zst", before + zst(tar(samples(range(4)))))
    write(raw / "train-1.tzst", zst(tar(samples(range(4, 6)))))
    write(raw / "test.tar", tar(samples(range(6, 8))))
    assert "3 WebDataset tars" in prep(raw)
    assert stored(raw) == {
        "train": expected("train-0.tar.zst", range(4)) + expected("train-1.tzst", range(4, 6)),
        "test": expected("test.tar", range(6, 8)),
    }


def test_two_frames_and_one_tar_as_the_source(tmp_path: Path) -> None:
    data = tar(samples(range(4)))
    path = write(tmp_path / "x.tar.zst", zst(data[:700]) + zst(data[700:]))
    prep(path)
    assert stored(path) == {"train": expected("x.tar.zst", range(4))}


def test_archives_of_class_folders(tmp_path: Path) -> None:
    members = {f"{ANIMALS[k % 2]}/{k}.jpg": jpeg(k) for k in range(6)}
    inner = write(tmp_path / "x.tar.zst", zst(tar({**members})))
    prep(inner)
    assert len(stored(inner)["train"]) == 6
    outer = write(tmp_path / "y.tar", tar({"x.tar.zst": inner.read_bytes()}))
    prep(outer)
    assert stored(outer) == stored(inner)


@pytest.mark.parametrize("kind", HOSTILE_TARS)
def test_hostile_members(tmp_path: Path, kind: str) -> None:
    (tmp_path / "in").mkdir()
    path = write(tmp_path / "evil.tar.zst", zst(hostile_tar(kind, tmp_path)))
    with pytest.raises(DatasetError, match="Do not trust it"):
        unpack(path, tmp_path / "in")
    assert sorted(os.listdir(tmp_path)) == ["evil.tar.zst", "in"]


def test_a_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """32,000 times its size: it is left after its limit, and no file stays."""
    monkeypatch.setattr(compressed, "_SMALL_BYTES", 1 << 20)
    path = write(tmp_path / "x.tar.zst", zst(tar({"a/1.jpg": bytes(32 << 20)})))
    most = max(1 << 20, 1100 * path.stat().st_size)
    assert most < 8 << 20
    sizes: list[int] = []
    with pytest.raises(DatasetError, match=r"1,100 times its size\. Do not trust it"):
        sizes.extend(map(len, blocks(path)))
    assert sum(sizes) <= most
    (tmp_path / "in").mkdir()
    with pytest.raises(DatasetError, match="1,100 times its size"):
        unpack(path, tmp_path / "in")
    assert "1,100 times its size" in prep(path, code=1)
    assert "1,100 times its size" in prep(path, "--layout", "webdataset", code=1)


def test_a_large_window_and_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tar(samples(range(4)))
    wide = write(tmp_path / "wide.tar.zst", zst(data * 2, window_log=28, enable_ldm=1))
    assert "is damaged: zstd decompress error" in prep(wide, code=1)
    full = write(tmp_path / "full.tar.zst", zst(data))

    class Usage:
        free = 10

    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage)
    assert "has room for" in prep(full, code=1)


@pytest.mark.parametrize("cut", [0.2, 0.6])
def test_files_that_are_cut_short(tmp_path: Path, cut: float) -> None:
    whole = zst(tar(samples(range(40))))
    path = write(tmp_path / "raw/x.tar.zst", whole[: int(len(whole) * cut)])
    assert "is damaged" in prep(path.parent, "--layout", "webdataset", code=1)


def test_mutations() -> None:
    data = zst(tar(samples(range(3))))
    check_mutations(data, "x.tar.zst", "webdataset", lambda root: None)
