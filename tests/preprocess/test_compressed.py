"""Compressed tars: they are read as far as needed, and a hostile one does not fill the disk."""

from __future__ import annotations

import gzip
import os
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from slipform.pipelines.errors import ConfigError, DatasetError
from slipform.preprocess import compressed
from slipform.preprocess.compressed import blocks, content, is_zstd
from tests.preprocess.layouts.test_webdataset import ANIMALS, samples, tar
from tests.preprocess.sources import jpeg, prep, write

ZSTD = b"\x28\xb5\x2f\xfd"


def test_what_is_decompressed_ends_with_the_reading(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).bytes(4 << 20)
    path = write(tmp_path / "x.tar.gz", gzip.compress(noise, 1))
    assert b"".join(blocks(path)) == noise
    with content(path) as file:
        assert file.read(1000) == noise[:1000]
        file.seek(2 << 20)
        assert file.read(5) == noise[2 << 20 :][:5]
        file.seek(-5, os.SEEK_CUR)
        assert file.read(5) == noise[2 << 20 :][:5]
        assert os.fstat(file._file.fileno()).st_size <= 3 << 20  # type: ignore[attr-defined]
        file.seek(len(noise) - 2)
        assert file.read(5) == noise[-2:]
        with pytest.raises(OSError, match="the end is known only after"):
            file.seek(0, os.SEEK_END)


def test_a_bomb_is_left_at_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compressed, "_SMALL_BYTES", 1 << 20)
    monkeypatch.setattr(compressed, "_MOST_TIMES", 100)
    data = tar({"1.cls": "a", "1.jpg": bytes(32 << 20)})
    path = write(tmp_path / "raw/x.tar.gz", gzip.compress(data, 1))
    most = max(1 << 20, 100 * path.stat().st_size)
    assert most < 24 << 20
    sizes: list[int] = []
    with pytest.raises(DatasetError, match=r"100 times its size\. Do not trust it"):
        sizes.extend(map(len, blocks(path)))
    assert sum(sizes) <= most
    text = prep(path.parent, "--layout", "webdataset", code=1)
    assert "100 times its size" in text
    assert sorted(os.listdir(tmp_path)) == ["raw"]


def test_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "x.tar.gz", gzip.compress(tar(samples(range(4)))))

    class Usage:
        free = 10

    monkeypatch.setattr("shutil.disk_usage", lambda folder: Usage)
    with pytest.raises(DatasetError, match="has room for"):
        next(blocks(path))


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing the file does not fail again with the bytes that the disk has not taken."""
    monkeypatch.setattr(tempfile, "TemporaryFile", partial(open, "/dev/full", "w+b", 1 << 20))
    file = content(write(tmp_path / "x.tar.gz", gzip.compress(bytes(5000))))
    with pytest.raises(OSError, match="No space left on device"):
        file.read(10)
    file.close()
    assert file.closed


@pytest.mark.parametrize(
    ("head", "is_one"),
    [
        (ZSTD, True),
        (b"\x50\x2a\x4d\x18", True),
        (b"\x5f\x2a\x4d\x18", True),
        (b"\x60\x2a\x4d\x18", False),
        (b"\x28\xb5\x2f", False),
        (b"\x1f\x8b", False),
        (b"", False),
    ],
)
def test_the_mark_of_zstd(head: bytes, is_one: bool, tmp_path: Path) -> None:
    with open(write(tmp_path / "x", head), "rb") as file:
        assert is_zstd(file) == is_one
        assert file.tell() == 0


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "raw/x.tar.zst", ZSTD + b"more")
    monkeypatch.setitem(sys.modules, "zstandard", None)
    told = "pip install 'slipform[zstd]'"
    with pytest.raises(ConfigError, match="zstandard"):
        next(blocks(path))
    assert told in prep(path, code=1)
    assert told in prep(path.parent, "--layout", "webdataset", code=1)
    for k in range(4):  # a stray archive does not prevent another layout
        write(path.parent / f"{ANIMALS[k % 2]}/{k}.jpg", jpeg(k))
    assert told in prep(path.parent)
