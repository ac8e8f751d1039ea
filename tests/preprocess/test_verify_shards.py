"""`prep verify` checks every shard, and counts samples over all of them."""

from __future__ import annotations

import gc
import json
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slipform.pipelines.beton import Beton
from slipform.pipelines.beton_format import (
    DESCRIPTOR,
    HEADER,
    IMAGE_FIELD,
    INT_FIELD,
    metadata_type,
)
from slipform.pipelines.manifest import FILE_NAME, read_manifest
from slipform.preprocess.verify import find_faults
from tests.pipelines.sharded import write_shards


@pytest.fixture
def shards(shapes: Path, tmp_path: Path) -> Path:
    return write_shards(shapes, tmp_path / "shards", [20, 20, 41])


def _faults(folder: Path) -> list[str]:
    return list(find_faults(folder, read_manifest(folder), threads=2))


def test_sound_shards_have_no_fault(shards: Path) -> None:
    assert _faults(shards) == []


def test_faults_name_the_sample_of_the_split_and_the_file(shards: Path) -> None:
    path = shards / "train-00003-of-00004.beton"
    beton, content = Beton(path), bytearray(path.read_bytes())
    content[beton.offsets[4] + beton.sizes[4] // 2] ^= 1
    path.write_bytes(content)
    (shards / "val-00001-of-00004.crc32.npy").unlink()
    (shards / "test-00004-of-00004.names.txt").write_text("other\n")
    (shards / "test-00001-of-00004.beton").unlink()
    train, sample, val, missing, names = _faults(shards)
    assert train.startswith("train: train-00003-of-00004.beton is not the file that was written")
    assert sample.startswith("train sample 24 (class ")
    assert f"sample 4 of {path} is damaged" in sample
    assert val.startswith("val: val-00001-of-00004.crc32.npy is missing")
    assert missing.startswith(f"test: {shards}/test-00001-of-00004.beton does not exist")
    assert "test-00004-of-00004.names.txt is not the file that prep wrote" in names


def test_counts_are_those_of_all_shards(shards: Path) -> None:
    content = json.loads((shards / FILE_NAME).read_text())
    counts = content["splits"]["train"]["counts"]
    counts[0], counts[1] = counts[0] - 1, counts[1] + 1
    (shards / FILE_NAME).write_text(json.dumps(content))
    assert _faults(shards) == ["train has other numbers of images per class than the manifest"]


@pytest.mark.parametrize("label", [6, 1 << 40, (1 << 63) - 1])
def test_labels_outside_the_classes_are_counted(shards: Path, label: int) -> None:
    path = shards / "train-00001-of-00004.beton"
    content = bytearray(path.read_bytes())
    start = HEADER.itemsize + 2 * DESCRIPTOR.itemsize
    metadata = np.frombuffer(content, metadata_type((IMAGE_FIELD, INT_FIELD)), 1, start)
    metadata["label"][0] = label
    path.write_bytes(content)
    assert "train: train-00001-of-00004.beton has 1 labels outside the 6 classes" in _faults(shards)


def test_a_truncated_shard_is_one_fault_of_a_file(shards: Path) -> None:
    os.truncate(shards / "train-00004-of-00004.beton", 900)
    (fault,) = _faults(shards)
    assert "train-00004-of-00004.beton is not a complete beton" in fault


class Owner:
    """It is freed by a collection only."""

    def __init__(self, found: Any) -> None:
        self.itself, self.found = self, found


@pytest.mark.usefixtures("no_collections")
def test_a_check_that_is_left_may_be_freed_in_one_of_its_threads(shards: Path) -> None:
    """This thread cannot wait for itself: an error would be reported as unraisable."""
    path, before = shards / "train-00001-of-00004.beton", set(threading.enumerate())
    beton, content = Beton(path), bytearray(path.read_bytes())
    content[beton.offsets[4] + beton.sizes[4] // 2] ^= 1
    path.write_bytes(content)
    owner = Owner(find_faults(shards, read_manifest(shards), threads=2))
    assert "is not the file that was written" in next(owner.found)
    assert "sample 4 (class" in next(owner.found)
    pool = owner.found.gi_frame.f_locals["pool"]
    del owner
    pool.submit(gc.collect).result()
    assert pool._shutdown
    for thread in set(threading.enumerate()) - before:
        thread.join()
