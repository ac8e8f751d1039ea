"""Preparing and training by many workers: by hand for small cases, and compared with real files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from slipform.bench.scale.assumptions import Assumptions
from slipform.bench.scale.preparing import preparing
from slipform.bench.scale.reads import samples_of
from slipform.bench.scale.tables import TABLE_BYTES, Tables, made_tables
from slipform.bench.scale.training import (
    INDEX_BYTES,
    kept_share,
    opening,
    order_of,
    own_samples,
    training,
)
from slipform.pipelines import read_ahead
from slipform.pipelines.beton import Beton
from slipform.pipelines.mirror import index, ranges
from slipform.pipelines.order import EpochOrder
from slipform.pipelines.remote import store
from slipform.preprocess import shard_list, shards
from slipform.preprocess.shard_record import Shard
from slipform.preprocess.source import Generated, SampleSource
from tests.pipelines import folders
from tests.preprocess.made import COUNT, made, write_all

SMALL = replace(
    Assumptions(), samples=1000, num_bytes=1e5, spread=1.0, workers=4, shards=8, batch_size=5
)


def test_the_tables_are_divided_as_prep_does() -> None:
    tables = made_tables(SMALL)
    assert len(tables.sizes) == tables.counts.sum() == 1000
    assert tables.sizes.sum() == pytest.approx(1e5, rel=0.2)
    sums = np.add.reduceat(tables.sizes, np.cumsum([0, *tables.counts[:-1]]))
    assert (np.abs(sums - tables.sizes.sum() / 8) <= tables.sizes.max()).all()
    ends = tables.positions + tables.sizes
    inside = np.diff(np.repeat(np.arange(8), tables.counts)) == 0
    assert (tables.positions[1:][inside] == ends[:-1][inside]).all()
    assert np.array_equal(made_tables(SMALL).sizes, tables.sizes)


def test_the_tables_are_those_of_real_shards(tmp_path: Path) -> None:
    """Offsets, and bytes for each sample in the files and in memory."""
    contents = [folders.jpeg(folders.smooth(20 + k % 9, 24, k)) for k in range(40)]
    train = Generated(contents.__getitem__, np.arange(40) % 2, "made")
    source = SampleSource("made", list("ab"), {"train": train}, "")
    sizes = np.ones(40, np.int64)  # generated samples are divided by their number
    for number in range(4):
        shard = Shard(number + 1, 4)
        shards.write_shard(source, tmp_path, shard)
        beton = Beton(tmp_path / shard.file("train"))
        part = shards.shard_parts({"train": sizes}, shard)["train"]
        given = replace(SMALL, samples=len(part), shards=1, num_bytes=1.0)
        first = made_tables(given).positions[0]
        assert beton.offsets[0] == first
        assert np.array_equal(beton.offsets, first + np.cumsum(beton.sizes) - beton.sizes)
        names = ("labels", "modes", "heights", "widths", "offsets", "sizes", "addresses")
        in_memory = sum(getattr(beton, name).nbytes for name in names) + beton.read_crc32().nbytes
        assert in_memory == INDEX_BYTES * len(beton)
        size = (tmp_path / shard.file("train")).stat().st_size
        assert size - (beton.offsets[-1] + beton.sizes[-1]) == 24 * len(beton)
    assert TABLE_BYTES == 24 + 24 + 4


def test_preparing_by_hand() -> None:
    """Two workers, four shards of 10 samples of 100 bytes; the last shard has 20."""
    given = Assumptions(
        samples=50, workers=2, shards=4, cores=2, name_letters=10, list_bytes=99,
        stat_seconds=0.4, list_at_once=8,
        bookkeeping_seconds=0.05, source_seconds=1.0, source_bandwidth=1000.0, core_bandwidth=100.0,
        hash_bandwidth=500.0, latency=1.0, bandwidth=100.0, part_bytes=300, parts_at_once=2,
        small_objects=3,
    )  # fmt: skip
    counts = np.array([10, 10, 10, 20])
    tables = Tables(np.zeros(50, np.int64), np.full(50, 100, np.int64), counts)
    listing, writing, upload, merging, total = preparing(given, tables)
    # Each worker writes two shards, and lists all images for each.
    assert listing.seconds == pytest.approx(2 * 50 * (0.4 / 8 + 0.05))
    assert listing.memory == 50 * 99
    # 20 samples: each core reads 10 files, and checks 1,000 bytes. Then 2,000 bytes are hashed.
    assert writing.seconds == pytest.approx(2 * (10 * 1.0 + 1000 / 100 + 2000 / 500))
    assert writing.memory == 2 * 2 * 2**20 + 33 * 20
    # 4 parts for 1,000 bytes and 7 for 2,000; begin, end, size; three objects and their sizes;
    # twelve before.
    assert upload.requests == 3 * 4 + 7 + 4 * (3 + 6 + 12)
    assert upload.num_bytes == 5000
    assert upload.seconds == pytest.approx(2 * (2000 / 100 + (4 + 9 + 12) * 1.0))
    assert merging.requests == 8 * 4 + 3 + 4
    assert merging.num_bytes == 50 * (52 + 10)
    assert merging.seconds == pytest.approx((8 * 4 / 8 + 7) * 1.0 + 50 * 62 / 100)
    assert total.seconds == pytest.approx(
        sum(phase.seconds for phase in (listing, writing, upload, merging))
    )
    assert total.requests == upload.requests + merging.requests


def test_the_source_may_be_slower_than_the_cores() -> None:
    given = replace(SMALL, workers=1, shards=1, source_seconds=0.0, source_bandwidth=10.0)
    tables = Tables(np.zeros(10, np.int64), np.full(10, 100, np.int64), np.array([10]))
    writing = preparing(replace(given, hash_bandwidth=1e12), tables)[1]
    assert writing.seconds == pytest.approx(1000 / 10)


def test_the_number_of_uploaded_objects_is_that_of_a_shard(tmp_path: Path) -> None:
    """A beton, and three small objects."""
    shards.write_shard(made(), tmp_path, Shard(1, COUNT))
    names = [path.name for path in tmp_path.iterdir() if not path.name.startswith("val")]
    assert len(names) == 1 + Assumptions().small_objects


def test_opening_by_hand() -> None:
    given = replace(SMALL, latency=0.5, tables_at_once=10, table_reads=2, bandwidth=1000.0)
    found = opening(given)
    assert found.requests == 4 * (8 * 5 * 2 + 2 * 2)
    assert found.num_bytes == 4 * 1000 * 52 * 2
    assert found.seconds == pytest.approx((5 * 2 + 2 * 2) * 0.5 + 104_000 / 1000)
    assert found.memory == 1000 * (45 + 16)


def test_an_epoch_in_the_order_of_the_files() -> None:
    """Each batch of a worker is one range. With one worker, two batches that are read ahead
    together are one range."""
    given = replace(SMALL, spread=1e-9, shards=1, gap=1, request_bytes=10**6, ahead_bytes=500.0)
    tables = made_tables(given)
    assert tables.sizes.tolist() == [100] * 1000
    order = order_of(given, 0, shuffle=False)
    cost = training(given, tables, [*np.moveaxis(samples_of(order, 0), 1, 0)], 1)
    assert (cost.requests, cost.num_bytes) == (1000 / 5, 1e5)
    assert cost.needed_bytes == cost.num_bytes
    alone = replace(given, workers=1, ahead_bytes=1000.0)
    order = order_of(alone, 0, shuffle=False)
    cost = training(alone, tables, [samples_of(order, 0)[:, 0]], 1)
    assert cost.requests == 100


@pytest.mark.parametrize(("size", "at_once"), [(10, 8), (600, 5), (1000, 3), (5000, 3)])
def test_small_requests_are_more_at_a_time(size: int, at_once: int) -> None:
    """3 of 1,000 bytes, and as many bytes of smaller ones, but not more than 8 requests."""
    given = replace(
        SMALL, workers=1, num_bytes=1000.0 * size, spread=1e-9, gap=1, request_bytes=1000,
        ahead_bytes=1e12, at_once=3, most_at_once=8, latency=1.0, bandwidth=1e15,
        store_requests=1e12, step_images_per_second=1e12, shards=1,
    )  # fmt: skip
    apart = made_tables(given)
    apart = apart._replace(positions=2 * apart.positions + np.arange(1000) * 2)  # no neighbors
    order = order_of(given, 0, shuffle=False)
    cost = training(given, apart, [samples_of(order, 0)[:, 0]], 1)
    assert cost.requests == 1000
    assert cost.times.whole == pytest.approx(-(-1000 // at_once), abs=0.1)


def test_workers_share_blocks_and_thus_read_single_samples() -> None:
    """In blocks, one worker reads whole blocks. Of four workers each needs every fourth sample of a
    block, so that it makes almost as many requests as without blocks."""
    given = replace(
        SMALL, samples=10_000, num_bytes=1e6, spread=1e-9, shards=1, window=4, gap=1,
        request_bytes=10**6, ahead_bytes=2e4,
    )  # fmt: skip
    tables = made_tables(given)

    def requests(workers: int, block: int) -> float:
        one = replace(given, workers=workers)
        order = order_of(one, block)
        return training(one, tables, [*np.moveaxis(samples_of(order, 0), 1, 0)], 1).requests

    assert requests(1, 50) <= 10_000 / 50
    assert requests(4, 50) > 0.5 * requests(4, 0)
    own = [own_samples(given, 50, rank) for rank in range(4)]
    assert sorted(np.concatenate(own).ravel().tolist()) == list(range(10_000))
    assert training(given, tables, own, 1).requests <= 10_000 / 50


def test_the_cache_keeps_what_a_worker_reads_again() -> None:
    """A worker reads a quarter in each epoch, so it has a quarter of the next one."""
    order, sizes = order_of(SMALL, 0), np.full(1000, 10, np.int64)
    first, second = (set(samples_of(order, epoch)[:, 1].ravel().tolist()) for epoch in (0, 1))
    expected = len(first & second) / 250
    assert 0.1 < expected < 0.4
    assert kept_share(order, 1, sizes, 1e9) == expected
    assert kept_share(order, 1, sizes, 10 * 250 * expected / 2) == pytest.approx(expected / 2, 0.05)
    files = order_of(SMALL, 0, shuffle=False)
    assert kept_share(files, 1, sizes, 1e9) == 1.0


def test_a_real_dataset_has_the_samples_of_the_model(tmp_path: Path) -> None:
    manifest = write_all(made(), tmp_path)
    given = replace(SMALL, samples=37, num_bytes=37.0, shards=COUNT, spread=1e-9)
    counts = [one.num_samples for one in manifest.split("train").shards]
    assert made_tables(given).counts.tolist() == counts


def test_the_assumptions_about_the_code_are_true() -> None:
    given = Assumptions()
    assert (given.at_once, given.most_at_once) == (ranges._FULL, ranges._MOST)
    assert (given.gap, given.request_bytes) == (ranges._MAX_GAP, ranges._MAX_BYTES)
    assert given.ahead_bytes == read_ahead._AHEAD // 2
    assert (given.part_bytes, given.parts_at_once) == (store._PART, store._PARTS_AT_ONCE)
    assert given.tables_at_once == index._AT_ONCE
    assert given.list_at_once == shard_list._READERS
    assert given.window == EpochOrder(8, 1).window


def test_settings_have_units() -> None:
    names = ("samples", "latency", "bookkeeping_seconds", "bandwidth", "gap", "ahead_bytes")
    assert Assumptions().some(*names, "step_images_per_second") == {
        "samples": "14,197,122",
        "latency": "30.0 ms",
        "bookkeeping_seconds": "10.0 µs",
        "bandwidth": "1,250 MB/s",
        "gap": "64.0 KiB",
        "ahead_bytes": "512 MiB",
        "step_images_per_second": "2,500",
    }
