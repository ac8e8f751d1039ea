"""The requests of a worker: the loader's order, and neighbors that are joined, for real betons."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipform.bench.scale.assumptions import Assumptions
from slipform.bench.scale.reads import join_neighbors, plan_requests, samples_of
from slipform.bench.scale.tables import FILE_STEP, Int64, Tables
from slipform.pipelines.beton import Beton
from slipform.pipelines.loader import Loader
from slipform.pipelines.manifest import Manifest
from slipform.pipelines.mirror.ranges import pieces_of
from slipform.pipelines.order import EpochOrder
from slipform.pipelines.plan.augmentation import Augmentation
from tests.preprocess.made import COUNT, made, write_all


@pytest.mark.parametrize("block", [0, 8])
@pytest.mark.parametrize("workers", [1, 3])
def test_the_samples_of_a_worker_are_those_of_the_order(block: int, workers: int) -> None:
    for rank in range(workers):
        order = EpochOrder(101, 4, seed=7, rank=rank, world_size=workers, block=block, window=3)
        found = samples_of(order, 2)[:, rank]
        step = order.global_batch_size
        expected = [order.batch(2, seen) for seen in range(0, len(found) * step, step)]
        assert found.tolist() == np.array(expected).tolist()
        assert len(found) == order.num_batches


def joined(
    positions: list[int], sizes: list[int], needs: list[int], gap: int, most: int
) -> list[tuple[int, int, int, int]]:
    """The reference: start, size, first and last need of each request, one sample at a time."""
    found: list[list[int]] = []
    for start, size, need in sorted(zip(positions, sizes, needs, strict=True)):
        if found:
            last = found[-1]
            end = last[0] + last[1]
            if start - end <= gap and start + size - last[0] <= most:
                last[1] = start + size - last[0]
                last[2], last[3] = min(last[2], need), max(last[3], need)
                continue
        found.append([start, size, need, need])
    return sorted(((a, b, c, d) for a, b, c, d in found), key=lambda one: one[2])


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(1, 20), st.integers(0, 9)), min_size=1),
    st.integers(0, 40),
    st.integers(1, 90),
)
def test_neighbors_are_joined_as_by_a_loop(
    samples: list[tuple[int, int, int]], gap: int, most: int
) -> None:
    space, size, need = (list(column) for column in zip(*samples, strict=True))
    ends = np.cumsum(np.array(space) + np.array(size))
    positions = (ends - np.array(size)).tolist()
    shuffled = np.random.default_rng(len(samples)).permutation(len(samples))
    at, sizes, needs = (np.array(one, np.int64)[shuffled] for one in (positions, size, need))
    found = join_neighbors(at, sizes, needs, gap, most)
    expected = joined(at.tolist(), sizes.tolist(), needs.tolist(), gap, most)
    assert found.first.tolist() == [one[2] for one in expected]
    as_rows = zip(found.starts, found.sizes, found.first, found.last, strict=True)
    assert sorted(tuple(map(int, row)) for row in as_rows) == sorted(expected)


def test_neighbors_are_joined_as_by_the_reader() -> None:
    """Of two betons, with the limits of `Assumptions`, which are those of the code."""
    generator, given = np.random.default_rng(0), Assumptions()
    for _ in range(50):
        count = int(generator.integers(1, 200))
        sizes = generator.integers(1, 400_000, count)
        gaps = generator.integers(0, 200_000, count) * (generator.random(count) < 0.6)
        files = np.sort(generator.integers(0, 2, count))
        positions = np.cumsum(sizes + gaps) - sizes + (files << FILE_STEP)
        shuffled, needs = generator.permutation(count), generator.permutation(count)
        positions, sizes = positions[shuffled], sizes[shuffled]
        found = join_neighbors(positions, sizes, needs, given.gap, given.request_bytes)
        pieces = pieces_of(np.arange(count), positions, sizes, needs)
        assert [*zip(found.starts, found.sizes, found.first, strict=True)] == [
            (one.start, one.end - one.start, one.need)
            for one in sorted(pieces, key=lambda one: one.need)
        ]


def test_by_hand() -> None:
    """Samples of 10 bytes. Two batches are read ahead together."""
    positions = np.array([0, 10, 30, 200, 1000, 1010, 5000, 6000], np.int64)
    tables = Tables(positions, np.full(8, 10, np.int64), np.array([8]))
    samples = np.array([[2, 0], [5, 1], [4, 3], [6, 7]])
    found = plan_requests(tables, samples, ahead_bytes=40, gap=20, most=100)
    # The first window has 0 and 10 to 40 in one request, and 1010; the second window is not joined
    # with it, so 1000 is fetched alone.
    assert found.starts.tolist() == [0, 1010, 200, 1000, 5000, 6000]
    assert found.sizes.tolist() == [40, 10, 10, 10, 10, 10]
    assert found.first.tolist() == [0, 1, 2, 2, 3, 3]
    assert found.last.tolist() == [1, 1, 2, 2, 3, 3]
    one = plan_requests(tables, samples, ahead_bytes=1e9, gap=20, most=100)
    assert one.starts.tolist() == [0, 1000, 200, 5000, 6000]
    assert one.sizes.tolist() == [40, 20, 10, 10, 10]
    cut = plan_requests(tables, samples, ahead_bytes=1e9, gap=20, most=20)
    assert cut.starts.tolist() == [0, 30, 1000, 200, 5000, 6000]
    assert plan_requests(tables, samples, ahead_bytes=1, gap=0, most=1).sizes.tolist() == [10] * 8


def tables_of(folder: Path, manifest: Manifest) -> Tables:
    """The tables of the betons of train."""
    betons = [Beton(folder / one.file) for one in manifest.split("train").files]
    positions = [beton.offsets + (number << FILE_STEP) for number, beton in enumerate(betons)]
    sizes = np.concatenate([beton.sizes for beton in betons])
    counts = np.array([len(beton) for beton in betons])
    return Tables(np.concatenate(positions), sizes, counts)


@pytest.mark.parametrize("block", [0, 4])
def test_the_requests_of_a_real_dataset(tmp_path: Path, block: int) -> None:
    """The model's requests are made, of real shards, for the batches of a real loader: every sample
    is in them, and they have as many bytes as the model says."""
    manifest = write_all(made(), tmp_path)
    tables = tables_of(tmp_path, manifest)
    order = EpochOrder(37, 3, seed=5, world_size=2, block=block)
    spec = Augmentation(image_size=16, crop="random_resized")
    files = [tmp_path / one.file for one in manifest.split("train").files]
    whole = Beton(*files)
    for rank in range(2):
        samples = samples_of(order, 0)[:, rank]
        given = {"rank": rank, "world_size": 2, "block": block}
        with Loader(tmp_path, "train", spec, batch_size=3, seed=5, threads=1, **given) as loader:
            batches = [batch.indices.tolist() for batch in loader]
        assert batches == samples.tolist()
        requests = plan_requests(tables, samples, ahead_bytes=20_000, gap=500, most=4000)
        assert len(requests.starts) < samples.size
        content = {
            int(start): _read(files, int(start), int(size))
            for start, size in zip(requests.starts, requests.sizes, strict=True)
        }
        assert sum(map(len, content.values())) == requests.sizes.sum()
        for number, batch in enumerate(samples):
            # Requests that are sent before the batch begins.
            sent = requests.starts[requests.first <= number]
            for sample in batch.tolist():
                assert _bytes_in(content, sent, tables, sample) == whole.bytes_of(sample).tobytes()


def _read(files: list[Path], position: int, size: int) -> bytes:
    number, offset = divmod(position, 1 << FILE_STEP)
    with open(files[number], "rb") as file:
        return os.pread(file.fileno(), size, offset)


def _bytes_in(content: dict[int, bytes], sent: Int64, tables: Tables, sample: int) -> bytes:
    """The bytes of a sample in the requests that were sent."""
    position, size = int(tables.positions[sample]), int(tables.sizes[sample])
    for start in sent.tolist():
        if start <= position and position + size <= start + len(content[start]):
            return content[start][position - start :][:size]
    pytest.fail(f"no request has sample {sample}")


def test_the_dataset_of_the_test_has_several_shards() -> None:
    assert COUNT > 2
