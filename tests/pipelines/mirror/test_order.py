"""What is fetched when, what is evicted, and how samples are joined to requests."""

from __future__ import annotations

import threading
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipform.pipelines.dataset import open_dataset
from slipform.pipelines.mirror import ranges
from slipform.pipelines.mirror.beton import MirroredBeton
from slipform.pipelines.mirror.ranges import Piece, pieces_of
from slipform.pipelines.order import EpochOrder
from slipform.pipelines.read_ahead import _Fetching, read_ahead
from slipform.pipelines.remote.store import Store
from slipform.pipelines.sampling import make_draws
from tests.object_server import Proxy
from tests.pipelines.epochs import open_loader
from tests.pipelines.mirror.stored import SAMPLES, assert_equal, batches


@given(
    st.lists(st.tuples(st.integers(0, 200_000), st.integers(1, 1_500_000)), max_size=30),
    st.randoms(use_true_random=False),
)
def test_pieces_cover_all_samples(lengths: list[tuple[int, int]], random: Any) -> None:
    """lengths: of the gap before each sample, and of the sample."""
    ends = np.cumsum(np.array(lengths, np.int64).reshape(-1, 2).ravel()).reshape(-1, 2)
    starts, sizes = ends[:, 0], ends[:, 1] - ends[:, 0]
    samples = np.arange(len(lengths))
    needs = np.array(random.sample(range(len(lengths)), len(lengths)), np.int64)
    mixed = np.array(random.sample(range(len(lengths)), len(lengths)), np.int64)
    found = pieces_of(samples[mixed], starts[mixed], sizes[mixed], needs[mixed])
    assert sorted(s for piece in found for s in piece.samples.tolist()) == samples.tolist()
    for piece in found:
        at = piece.samples
        assert (piece.start, piece.end) == (starts[at].min(), (starts + sizes)[at].max())
        assert piece.need == needs[at].min()
        assert len(at) == 1 or piece.end - piece.start <= ranges._MAX_BYTES
        gaps = starts[at][1:] - (starts + sizes)[at][:-1]
        assert (gaps <= ranges._MAX_GAP).all()
    for one, after in pairwise(found):  # nothing that fits is left apart
        near = after.start - one.end <= ranges._MAX_GAP
        first = int(starts[after.samples[0]] + sizes[after.samples[0]])
        assert not (near and first - one.start <= ranges._MAX_BYTES)


def test_samples_are_fetched_in_the_order_of_the_epochs(
    url: str, photos: Path, object_store: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranges, "_MAX_GAP", -1)  # nothing is joined
    monkeypatch.setattr("slipform.pipelines.read_ahead.requests_at_once", lambda pieces: 1)
    loader = open_loader(url, "host", batch_size=5)
    beton, before = loader.samples.beton, len(object_store.requests)
    batches(loader, 1)
    texts = [r.bytes_range for r in object_store.requests[before:] if SAMPLES.search(r.text)]
    starts = [int(text.removeprefix("bytes=").partition("-")[0]) for text in texts]
    order = EpochOrder(120, 5, 5)
    want = [beton.offsets[i] for k in range(0, 120, 5) for i in order.batch(0, k)]
    # In a batch, the order of the file; all of a batch is needed at once.
    want = [int(x) for k in range(0, 120, 5) for x in sorted(want[k : k + 5])]
    assert starts == want


def _fetching(beton: MirroredBeton, order: EpochOrder) -> _Fetching:
    ahead = read_ahead(beton, order)
    assert isinstance(ahead, _Fetching)
    return ahead


def _open(url: str) -> MirroredBeton:
    beton = open_dataset(url).beton("train")
    assert isinstance(beton, MirroredBeton)
    return beton


def test_the_sample_that_is_needed_last_is_evicted_first(
    url: str, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPFORM_CACHE_SIZE", str((photos / "train.beton").stat().st_size // 2))
    beton = _open(url)
    next_use = np.random.default_rng(3).permutation(120)
    beton.reader.next_use = lambda: next_use
    with beton.held(np.arange(40)):
        pass
    before = np.flatnonzero(beton.reader._present[beton.reader.numbers])
    assert before.tolist() == list(range(40))
    held = np.arange(80, 95)
    with beton.held(held):
        after = np.flatnonzero(beton.reader._present[beton.reader.numbers])
        assert set(held.tolist()) <= set(after.tolist())
        for index in held[:3]:
            local = open_dataset(photos).beton("train").bytes_of(int(index))
            assert np.array_equal(beton.bytes_of(int(index)), local)
    evicted = np.setdiff1d(before, after)
    kept = np.intersect1d(before, after)
    assert len(evicted) > 0
    assert len(kept) > 0
    assert next_use[evicted].min() > next_use[kept].max()


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("draws", [False, True])
@pytest.mark.parametrize(("rank", "world", "local"), [(0, 1, 1), (1, 3, 1), (2, 4, 2), (3, 4, 4)])
def test_the_next_use_of_each_sample(
    split: bool,
    draws: bool,
    rank: int,
    world: int,
    local: int,
    url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Against the batches of all processes on the machine, one after another."""
    monkeypatch.setenv("LOCAL_RANK", str(rank % local))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(local))
    beton = _open(url)
    drawn = make_draws("balanced", beton.labels, None, ["a", "b", "c"]) if draws else None
    ranks = range(rank - rank % local, rank - rank % local + local)
    size = 120 // 6 - 1 if split else 120 // world // 6  # 19 samples are not divided evenly
    given: dict[str, Any] = {"world_size": world, "draws": drawn, "split_batches": split}
    orders = [EpochOrder(120, size, 5, rank=one, **given) for one in ranks]
    ahead = _fetching(beton, EpochOrder(120, size, 5, rank=rank, **given))
    ahead._cursor = (1, 2 * orders[0].global_batch_size)
    uses: defaultdict[int, int] = defaultdict(lambda: 1 << 40)
    time, position = 0, ahead._cursor
    while position[0] < 3:
        for order in orders:
            for sample in order.batch(*position).tolist():
                uses[sample] = min(uses[sample], time)
                time += 1
        position = orders[0].after(*position)
    found, want = ahead._next_use(), np.array([uses[k] for k in range(120)])
    ahead.close()
    assert np.array_equal(np.argsort(found, kind="stable"), np.argsort(want, kind="stable"))


def test_the_plan_goes_to_the_next_epoch_and_not_beyond(url: str) -> None:
    beton = _open(url)
    ahead = _fetching(beton, EpochOrder(120, 20, 5))
    ahead.wait(0, 0)
    assert ahead._cursor == (2, 0)
    ahead.close()
    ahead = _fetching(beton, EpochOrder(120, 20, shuffle=False, drop_last=False))
    ahead.wait(0, 0)
    assert ahead._cursor == (1, 0)
    ahead.close()


def test_pins_are_taken_back(url: str) -> None:
    """After a whole epoch, a restart and the end, nothing is held."""
    loader = open_loader(url, "host")
    beton = loader.samples.beton
    assert isinstance(beton, MirroredBeton)
    for _ in range(2):
        for _, _ in zip(range(2), loader, strict=False):
            pass
        loader.set_epoch(3)
    with loader:
        next(iter(loader))
        assert beton.reader._pins.counts.any()
    ahead = loader.sequence.ahead._read_ahead
    assert isinstance(ahead, _Fetching)
    for thread in ahead._fetching._threads:
        thread.join()
    assert not beton.reader._pins.counts.any()
    assert not beton.reader._pins._shared.any()


@pytest.mark.parametrize("room", [True, False])
def test_what_lies_between_two_samples_is_kept_if_there_is_room(
    room: bool, url: str, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not room:
        monkeypatch.setenv("SLIPFORM_CACHE_SIZE", str((photos / "train.beton").stat().st_size // 2))
    beton = _open(url)
    with beton.held(np.array([3, 7])):
        found = np.flatnonzero(beton.reader._present[beton.reader.numbers]).tolist()
    assert found == ([3, 4, 5, 6, 7] if room else [3, 7])


def _pieces(count: int, size: int) -> list[Piece]:
    return [Piece(k, np.array([k]), k * size, (k + 1) * size) for k in range(count)]


@pytest.mark.parametrize(
    ("count", "size", "at_once"),
    [
        (0, 1, 0),
        (7, 100_000, 7),
        (1000, 1 << 20, 32),
        (1000, 512 << 10, 64),
        (1000, 100_000, 128),
        (1000, 0, 128),
        (1000, 8 << 20, 4),
    ],
)
def test_so_many_requests_are_under_way_that_they_have_32_mib(
    count: int, size: int, at_once: int
) -> None:
    assert ranges.requests_at_once(_pieces(count, size)) == at_once


def test_small_requests_do_not_wait_for_each_other(
    url: str, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No answer comes before 100 requests are under way. With fewer at a time this would hang."""
    monkeypatch.setattr(ranges, "_MAX_GAP", -1)
    want = batches(open_loader(photos, "host"), 1)
    loader = open_loader(url, "host")
    usual, lock, enough, waiting = Store.read_range, threading.Lock(), threading.Event(), [0]

    def together(self: Store, name: str, start: int, end: int) -> memoryview:
        with lock:
            waiting[0] += 1
            if waiting[0] == 100:
                enough.set()
        enough.wait()
        return usual(self, name, start, end)

    monkeypatch.setattr(Store, "read_range", together)
    assert_equal(batches(loader, 1), want)
