"""The model makes as many requests as real runs do: a shard, the merge, the tables, an epoch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from slipform.bench.scale.assumptions import Assumptions
from slipform.bench.scale.preparing import preparing
from slipform.bench.scale.reads import plan_requests, samples_of
from slipform.bench.scale.tables import FILE_STEP, Tables
from slipform.bench.scale.training import opening, order_of
from slipform.pipelines import read_ahead
from slipform.pipelines.beton import Beton
from slipform.pipelines.loader import Loader
from slipform.pipelines.manifest import read_manifest
from slipform.pipelines.mirror import ranges
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.remote.store import open_store
from slipform.preprocess.merge import merge
from slipform.preprocess.shard_record import Shard
from slipform.preprocess.shards import write_shard
from slipform.preprocess.source import Generated, SampleSource
from tests.object_server import Proxy
from tests.pipelines import folders

SAMPLES, SHARDS, BATCH = 240, 4, 6
GIVEN = replace(
    Assumptions(), samples=SAMPLES, num_bytes=1e6, workers=2, shards=SHARDS, batch_size=BATCH
)


def source() -> SampleSource:
    """Only train, as in the model. JPEGs of several sizes."""
    contents = [folders.jpeg(folders.noise(20 + k % 9, 24, k)) for k in range(SAMPLES)]
    samples = Generated(contents.__getitem__, np.arange(SAMPLES) % 3, "made")
    return SampleSource("made", list("abc"), {"train": samples}, "as made")


@pytest.fixture
def tables() -> Tables:
    counts = np.full(SHARDS, SAMPLES // SHARDS)
    return Tables(np.zeros(SAMPLES, np.int64), np.full(SAMPLES, 1000, np.int64), counts)


def test_shards_and_the_merge(object_store: Proxy, tables: Tables) -> None:
    url, found = object_store.new_folder(), []
    for number in range(1, SHARDS + 1):
        object_store.reset()
        write_shard(source(), url, Shard(number, SHARDS))
        found.append(len(object_store.requests))
    upload, merging = preparing(GIVEN, tables)[2:4]
    # The first worker finds neither a record nor a claim.
    assert found[1:] == [upload.requests / SHARDS] * (SHARDS - 1)
    assert found[0] == found[1] - 8
    object_store.reset()
    merge(url)
    assert len(object_store.requests) == merging.requests


def test_a_large_beton(object_store: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """In parts, of which the store wants 5 MiB or more."""
    monkeypatch.setattr("slipform.pipelines.remote.store._PART", 5 << 20)
    pixels = folders.noise(700, 900, 0)
    samples = Generated(lambda index: pixels, np.arange(7) % 2, "made")
    large = SampleSource("made", ["a", "b"], {"train": samples}, "as made")
    url = object_store.new_folder()
    for number in (1, 2):
        object_store.reset()
        write_shard(large, url, Shard(number, 2))
    found = len(object_store.requests)
    size = open_store(url).size(Shard(2, 2).file("train"))
    assert size > 5 << 20
    sizes = np.array([size])
    given = replace(GIVEN, samples=1, shards=1, workers=1, part_bytes=5 << 20)
    upload = preparing(given, Tables(np.zeros(1, np.int64), sizes, np.array([1])))[2]
    assert found == upload.requests


@pytest.mark.parametrize("block", [0, pytest.param(40, marks=pytest.mark.slow)])
def test_the_tables_and_an_epoch(
    object_store: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    """Of two workers. Neighbors are joined over a small gap, so that some are and others not."""
    url = object_store.new_folder()
    for number in range(1, SHARDS + 1):
        write_shard(source(), url, Shard(number, SHARDS))
    manifest = merge(url)
    size = manifest.split("train").bytes
    gap, most = 1200, 6000
    monkeypatch.setattr(ranges, "_MAX_GAP", gap)
    monkeypatch.setattr(ranges, "_MAX_BYTES", most)
    monkeypatch.setattr(read_ahead, "_NEXT_EPOCH", 0)  # only one epoch is counted
    monkeypatch.setenv("SLIPFORM_CACHE_SIZE", str(int(size * 0.95)))
    window = 20_000
    monkeypatch.setattr(read_ahead, "_AHEAD", 2 * window)
    real = _tables(object_store, url, tmp_path)
    for rank in range(2):
        monkeypatch.setenv("SLIPFORM_CACHE", str(tmp_path / f"cache-{rank}"))
        object_store.reset()
        with Loader(
            url, "train", Augmentation(image_size=16), batch_size=BATCH, executor="host",
            threads=1, prefetch=1, rank=rank, world_size=2, block=block,
        ) as loader:  # fmt: skip
            assert len(object_store.requests) == opening(GIVEN).requests / 2
            object_store.reset()
            assert len([*loader]) == len(loader)
            found = len(object_store.requests)
        samples = samples_of(order_of(GIVEN, block), 0)[:, rank]
        plan = plan_requests(real, samples, ahead_bytes=window, gap=gap, most=most)
        assert len(plan.sizes) == found
        assert BATCH * len(samples) / 4 < found < BATCH * len(samples), "some are joined"


def _tables(server: Proxy, url: str, folder: Path) -> Tables:
    """Where the samples lie."""
    positions, sizes, counts = list[int](), list[int](), list[int]()
    for number, info in enumerate(read_manifest(url).split("train").shards):
        open_store(url).get_file(info.file, folder / info.file)
        beton = Beton(folder / info.file)
        positions += ((number << FILE_STEP) + beton.offsets.astype(np.int64)).tolist()
        sizes += beton.sizes.tolist()
        counts.append(len(beton))
    return Tables(*(np.array(column, np.int64) for column in (positions, sizes, counts)))
