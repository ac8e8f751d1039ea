"""Checksums of many samples, compared with zlib's, and the first read of raw samples."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest

from slipform.pipelines.beton import Beton
from slipform.pipelines.decoding.crc32 import crc32_of
from slipform.pipelines.decoding.integrity import FirstRead
from slipform.pipelines.errors import SampleError
from tests.pipelines.folders import noise, write_beton


def test_checksums_are_those_of_zlib() -> None:
    """Every length up to 40 bytes, at every alignment, and some long ones."""
    generator = np.random.default_rng(1)
    data = generator.integers(0, 256, 5000, np.uint8)
    places = [(offset, size) for offset in range(9) for size in range(41)]
    places += [(0, 5000), (3, 4001), (4999, 1), (5000, 0)]
    offsets, sizes = np.array(places).T
    found = crc32_of(data, offsets, sizes)
    assert found.dtype == np.uint32
    assert found.tolist() == [zlib.crc32(data[at : at + size].data) for at, size in places]
    assert crc32_of(data, offsets[:0], sizes[:0]).shape == (0,)


def test_all_samples_were_read_only_after_each_one_was(tmp_path: Path) -> None:
    path = tmp_path / "train.beton"
    write_beton(path, [noise(9, 7, seed) for seed in range(6)], [0] * 6, [(9, 7)] * 6)
    whole = path.read_bytes()
    reader = FirstRead(Beton(path), "error")
    for _ in range(5):  # many more reads than samples, but not of the last one
        assert reader.bad(np.arange(5)) == []
        assert reader.has_read(np.arange(5))
        assert not reader.has_read(np.arange(6))
    assert reader.bad(np.arange(6)) == []
    assert all(reader.has_read(np.arange(6)) for _ in range(3))
    assert FirstRead(Beton(path).subset(np.arange(0)), "error").bad(np.arange(0)) == []
    at = int(Beton(path).offsets[2])
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    skipping = FirstRead(Beton(path), "skip")
    for _ in range(5):
        assert skipping.bad(np.arange(6)) == [2], "it is never read as a sound one"
        assert not skipping.has_read(np.arange(6))


def test_a_damaged_raw_sample_is_found_at_the_first_read(tmp_path: Path) -> None:
    """Each single byte: the first, one in the middle, the last."""
    path = tmp_path / "train.beton"
    write_beton(path, [noise(9, 7, seed) for seed in range(6)], [0] * 6, [(9, 7)] * 6)
    whole, beton = path.read_bytes(), Beton(path)
    assert FirstRead(beton, "error").bad(np.arange(6)) == []
    for sample, byte in ((0, 0), (2, 100), (5, 9 * 7 * 3 - 1)):
        at = int(beton.offsets[sample]) + byte
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        changed = np.array([4, sample, 1])
        reader = FirstRead(Beton(path), "skip")
        assert reader.bad(changed) == [1]
        assert reader.bad(changed) == [1], "it is not forgotten"
        with pytest.raises(SampleError, match=f"sample {sample} of .* is damaged"):
            FirstRead(Beton(path), "error").bad(changed)
