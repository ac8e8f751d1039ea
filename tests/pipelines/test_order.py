"""EpochOrder: a permutation for each epoch that does not depend on the number of processes or on
resuming."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipform.pipelines.errors import ConfigError
from slipform.pipelines.loader import Loader
from slipform.pipelines.order import EpochOrder
from slipform.pipelines.plan.philox import permutation


def _epoch(order: EpochOrder, epoch: int = 0, seen: int = 0) -> list[np.ndarray]:
    """The batches of one process from a position on."""
    batches = []
    at = order.next_position(epoch, seen)
    while at[0] == epoch:
        batches.append(order.batch(*at))
        at = order.after(*at)
    assert at == (epoch + 1, 0)
    return batches


def test_each_epoch_and_each_seed_has_another_permutation() -> None:
    order = EpochOrder(1000, 10)
    epochs = [order.samples(epoch) for epoch in range(5)] + [
        EpochOrder(1000, 10, seed=1).samples(0)
    ]
    for samples in epochs:
        np.testing.assert_array_equal(np.sort(samples), np.arange(1000))
    assert len({tuple(samples) for samples in epochs}) == 6
    np.testing.assert_array_equal(
        order.samples(3), EpochOrder(1000, 50, world_size=4, rank=2).samples(3)
    )


@given(
    num=st.integers(1, 300),
    size=st.integers(1, 24),
    epoch=st.integers(0, 1000),
    world_size=st.sampled_from([2, 3, 4]),
    shuffle=st.booleans(),
    drop=st.booleans(),
    block=st.sampled_from([0, 1, 7, 64, 500]),
    window=st.integers(1, 5),
)
def test_shards_interleave_to_the_order_of_one_process(  # type: ignore[no-untyped-def]
    num, size, epoch, world_size, shuffle, drop, block, window
) -> None:
    options = {"seed": 3, "shuffle": shuffle, "drop_last": drop, "block": block, "window": window}
    if drop and num < size * world_size:
        with pytest.raises(ConfigError, match="larger than the split"):
            EpochOrder(num, size, rank=0, world_size=world_size, **options)
        return
    alone = EpochOrder(num, size * world_size, **options)
    shards = [
        EpochOrder(num, size, rank=rank, world_size=world_size, **options)
        for rank in range(world_size)
    ]
    whole, parts = _epoch(alone, epoch), [_epoch(shard, epoch) for shard in shards]
    assert {len(batches) for batches in parts} == {len(whole)} == {alone.num_batches}
    for step, batch in enumerate(whole):
        np.testing.assert_array_equal(np.concatenate([batches[step] for batches in parts]), batch)
    flat = np.concatenate(whole) if whole else np.zeros(0, int)
    np.testing.assert_array_equal(
        flat[flat >= 0],
        alone.samples(epoch)[: num if not drop else num // (size * world_size) * size * world_size],
    )
    np.testing.assert_array_equal(np.sort(alone.samples(epoch)), np.arange(num))


@given(
    num=st.integers(1, 300),
    total=st.integers(1, 40),
    epoch=st.integers(0, 1000),
    world_size=st.integers(1, 7),
    drop=st.booleans(),
)
def test_any_number_of_processes_divides_the_batches_of_one(
    num: int, total: int, epoch: int, world_size: int, drop: bool
) -> None:
    shared = {"seed": 3, "drop_last": drop, "split_batches": True, "world_size": world_size}
    if total < world_size:
        with pytest.raises(ConfigError, match=f"{total} cannot be divided among {world_size} pro"):
            EpochOrder(num, total, **shared)
        return
    if drop and num < total:
        with pytest.raises(ConfigError, match=f"train.batch_size to {num} or less"):
            EpochOrder(num, total, **shared)
        return
    alone = EpochOrder(num, total, seed=3, drop_last=drop)
    parts = [EpochOrder(num, total, rank=rank, **shared) for rank in range(world_size)]
    assert {part.global_batch_size for part in parts} == {total}
    sizes = [part.size for part in parts]
    assert sum(sizes) == total
    assert max(sizes) - min(sizes) <= 1
    for step, batch in enumerate(_epoch(alone, epoch)):
        found = [part.batch(epoch, step * total) for part in parts]
        assert [len(one) for one in found] == sizes
        np.testing.assert_array_equal(np.concatenate(found), batch)
    numbers = [
        part.batch_number(step * total) for step in range(alone.num_batches) for part in parts
    ]
    assert numbers == list(range(alone.num_batches * world_size))  # each batch is mixed by its own


@given(
    num=st.integers(20, 200),
    before=st.integers(1, 10),
    after=st.integers(1, 20),
    steps=st.integers(0, 5),
)
def test_the_rest_after_a_resume_does_not_depend_on_the_batch_size(
    num: int, before: int, after: int, steps: int
) -> None:
    first = EpochOrder(num, before)
    at = (0, 0)
    for _ in range(min(steps, first.num_batches - 1)):
        at = first.after(*at)
    rest = _epoch(EpochOrder(num, after), *at)
    left = num - at[1]
    flat = np.concatenate(rest) if rest else np.zeros(0, int)
    np.testing.assert_array_equal(flat, first.samples(0)[at[1] : at[1] + left // after * after])


@pytest.mark.parametrize("num", [1, 5, 16, 17])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_evaluation_gives_every_sample_once_and_pads(num: int, world_size: int) -> None:
    shards = [
        EpochOrder(num, 4, shuffle=False, drop_last=False, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    batches = [batch for shard in shards for batch in _epoch(shard)]
    assert {len(batch) for batch in batches} == {4}
    flat = np.concatenate(batches)
    np.testing.assert_array_equal(np.sort(flat[flat >= 0]), np.arange(num))


def test_blocks_keep_reads_near() -> None:
    """Every block * window consecutive samples come from `window` blocks: reads are in a few places
    of the file."""
    order = EpochOrder(10_000, 10, block=100, window=4)
    samples = order.samples(0)
    np.testing.assert_array_equal(np.sort(samples), np.arange(10_000))
    for start in range(0, 10_000, 400):
        assert len(np.unique(samples[start : start + 400] // 100)) == 4
    blocks = samples[::400] // 100
    assert len(np.unique(blocks)) > 20
    assert not np.array_equal(samples, np.sort(samples))
    inside = samples[:400]
    assert np.abs(np.diff(inside // 100)).astype(bool).mean() > 0.6, (
        "samples of a window are shuffled among its blocks"
    )
    assert not np.array_equal(samples, order.samples(1))


def test_windows_are_shuffled_differently() -> None:
    samples = EpochOrder(1600, 10, block=16, window=1).samples(0).reshape(100, 16) % 16
    assert len(np.unique(samples, axis=0)) == 100


def test_loaders_beside_each_other_shuffle_once_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[int, int]] = []

    def counted(seed: int, epoch: int, count: int) -> np.ndarray:
        made.append((seed, epoch))
        return permutation(seed, epoch, count)

    monkeypatch.setattr("slipform.pipelines.order.permutation", counted)
    orders = [EpochOrder(40, 10, seed=seed) for seed in range(6)]
    for epoch in range(3):
        for seen in range(0, 40, 10):
            for order in orders:
                order.batch(epoch, seen)
                order.batch(epoch + 1, 0)  # is prefetched
    assert sorted(made) == [(seed, epoch) for seed in range(6) for epoch in range(4)]


def test_a_batch_in_order_needs_no_order_of_the_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """An evaluation of millions of images would make it for each batch."""
    order = EpochOrder(10, 2, shuffle=False, drop_last=False, rank=1, world_size=2)
    want = [order.samples(0)[2:4].tolist(), [6, 7], [-1, -1]]
    monkeypatch.setattr(EpochOrder, "samples", None)
    assert [order.batch(0, seen).tolist() for seen in (0, 4, 8)] == want


def test_a_block_larger_than_the_split_takes_no_memory() -> None:
    want = EpochOrder(50, 5, block=50).samples(2)
    np.testing.assert_array_equal(EpochOrder(50, 5, block=2**62).samples(2), want)
    np.testing.assert_array_equal(EpochOrder(50, 5, block=51).samples(2), want)


def test_no_samples_give_no_batches() -> None:
    for drop in (True, False):
        order = EpochOrder(0, 4, drop_last=drop)
        assert order.num_batches == 0
        assert _epoch(order) == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"batch_size": 0}, "batch_size = 0"),
        ({"batch_size": 4, "rank": 2, "world_size": 2}, "ranks go from 0 to 1"),
        ({"batch_size": 4, "rank": -1, "world_size": 2}, "rank -1"),
        ({"batch_size": 60, "world_size": 2}, "train.batch_size to 50 or less"),
    ],
)
def test_errors_have_advice(options: dict[str, int], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        EpochOrder(100, **options)


def test_neighbors_stay_near_each_other(shapes: Path) -> None:
    """block: stored blocks are within one window, every sample occurs once, and a position is
    refused with another block size."""
    with Loader(shapes, batch_size=16, block=5, executor="resident") as loader:
        order = [i for batch in loader for i in batch.indices.tolist()]
        assert sorted(order) == list(range(240))
        position = {sample: at for at, sample in enumerate(order)}
        windows = [
            {position[first + k] // (5 * loader._order.window) for k in range(5)}
            for first in range(0, 240, 5)
        ]
        assert all(len(window) == 1 for window in windows)
        assert order != [i for batch in loader for i in batch.indices.tolist()]
        with (
            Loader(shapes, batch_size=16, executor="resident") as other,
            pytest.raises(ConfigError, match="block = 5"),
        ):
            other.load_state_dict(loader.state_dict())
