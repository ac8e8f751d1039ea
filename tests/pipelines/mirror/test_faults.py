"""With a network or a server that fails, a loader gives the right batches or an error."""

from __future__ import annotations

import re
import shutil
import threading
from itertools import product
from pathlib import Path

import pytest

from slipform.pipelines.dataset import open_dataset
from slipform.pipelines.errors import DatasetError, SlipformError, StorageError
from slipform.pipelines.mirror.beton import MirroredBeton
from slipform.pipelines.remote.store import Store, open_store
from tests.object_server import BUCKET, Fault, Proxy
from tests.pipelines.epochs import open_loader
from tests.pipelines.mirror import stored
from tests.pipelines.mirror.stored import (
    Arrays,
    arrays,
    assert_equal,
    batches,
    fetched,
    read_on,
    upload,
)

FEW_KINDS = ("500", "503", "reset", "cut", "short", "wrong")


@pytest.fixture
def url(object_store: Proxy, photos: Path, request: pytest.FixtureRequest) -> str:
    """`photos` in the store. The name is always the same: the proxy draws faults from it."""
    name = re.sub(r"\W+", "-", request.node.name)
    found = upload(photos, f"s3://{BUCKET}/{name}")
    object_store.reset()
    return found


@pytest.fixture(autouse=True)
def small_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many requests, so that each kind of fault comes."""
    monkeypatch.setattr("slipform.pipelines.mirror.ranges._MAX_GAP", 0)
    monkeypatch.setattr("slipform.pipelines.mirror.ranges._MAX_BYTES", 20_000)


# The executors share what handles faults. Kinds are alike: no answer, fewer bytes, other bytes.
QUICK = [("500", "host"), ("cut", "host"), ("wrong", "host"), ("reset", "resident")]


@pytest.mark.parametrize(
    ("kind", "executor"),
    [
        pytest.param(*pair, marks=() if pair in QUICK else pytest.mark.slow)
        for pair in product(FEW_KINDS, ("host", "resident"))
    ],
)
def test_some_requests_fail(
    kind: str, executor: str, url: str, photos: Path, object_store: Proxy
) -> None:
    want = batches(open_loader(photos, executor))
    object_store.chance, object_store.latency = {kind: 0.1}, 0.002
    assert_equal(batches(open_loader(url, executor)), want)
    assert len(fetched(object_store)) > 40


def test_requests_of_all_kinds_fail_with_a_small_cache(
    url: str, photos: Path, object_store: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPFORM_CACHE_SIZE", str((photos / "train.beton").stat().st_size // 3))
    want = batches(open_loader(photos, "host", batch_size=5))
    # Four wrong answers for a sample end the loop: 500 * 0.005 ** 4 < 1e-6.
    object_store.chance = dict.fromkeys(FEW_KINDS, 0.03) | {"wrong": 0.005}
    assert_equal(batches(open_loader(url, "host", batch_size=5)), want)


@pytest.mark.parametrize("kind", FEW_KINDS)
def test_all_requests_fail(
    kind: str, url: str, object_store: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the beginning there is an error, and nothing is left that a later loader would trust."""
    monkeypatch.setenv("SLIPFORM_STORAGE_PATIENCE", "0.3")
    object_store.chance = {kind: 1.0}
    with pytest.raises((StorageError, DatasetError)) as error:
        open_loader(url, "host")
    assert url in str(error.value)


@pytest.mark.parametrize(
    "kind",
    [pytest.param(x, marks=() if x in ("cut", "wrong") else pytest.mark.slow) for x in FEW_KINDS],
)
def test_a_running_loader_fails_and_goes_on_later(
    kind: str, url: str, photos: Path, object_store: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batches before the error are right. When the server is well again, the loader continues
    with the first batch that it has not handed out."""
    monkeypatch.setenv("SLIPFORM_CACHE_SIZE", str((photos / "train.beton").stat().st_size // 3))
    want = batches(open_loader(photos, "host", batch_size=5))
    got: list[Arrays] = []
    with open_loader(url, "host", batch_size=5) as loader:
        beton = loader.samples.beton
        assert isinstance(beton, MirroredBeton)
        store = beton.reader.transfer._mirror.store
        usual, store._patience = store._patience, 0.2
        object_store.faults = [Fault(kind, "beton bytes=", times=10_000, after=30)]
        for _ in range(2):
            with pytest.raises(StorageError, match=r"What was fetched is kept.*train --resume RUN"):
                read_on(loader, got)
        assert len(got) < len(want)
        object_store.faults, store._patience = [], usual
        read_on(loader, got, len(want))
    assert_equal(got, want)


def test_a_server_that_is_away(
    url: str, photos: Path, object_store: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is cached is used as long as it lasts."""
    want = batches(open_loader(photos, "host"), 3)
    with open_loader(url, "host") as loader:
        first = [arrays(batch) for batch in loader]
        object_store.down = True
        rest = [arrays(batch) for _ in range(2) for batch in loader]
    assert_equal(first + rest, want)
    monkeypatch.setenv("SLIPFORM_STORAGE_PATIENCE", "0.3")
    with pytest.raises(StorageError, match=r"dataset.json"):
        open_loader(url, "host")


def test_a_loader_is_closed_while_the_server_does_not_answer(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`close` waits for no request. Otherwise this test would hang."""
    loader = open_loader(url, "host")
    asked, answer = threading.Event(), threading.Event()

    def blocks(self: Store, name: str, start: int, end: int) -> memoryview:
        asked.set()
        answer.wait()
        raise StorageError("too late")

    monkeypatch.setattr(Store, "read_range", blocks)
    loader.sequence.ahead._submit_ahead(0)
    asked.wait()
    try:
        loader.close()
        assert loader.samples.beton.offsets.size == 120
    finally:
        answer.set()


@pytest.mark.parametrize("on_bad", ["error", pytest.param("skip", marks=pytest.mark.slow)])
def test_a_dataset_that_is_replaced_during_a_run(
    on_bad: str,
    url: str,
    photos: Path,
    object_store: Proxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No sample of the new one is taken for one of the old one, or for a damaged one."""
    monkeypatch.setenv("SLIPFORM_CACHE_SIZE", str((photos / "train.beton").stat().st_size // 3))
    want = batches(open_loader(photos, "host", batch_size=5), 1)
    other = stored.photos(tmp_path / "other", 119)
    with open_loader(url, "host", batch_size=5, on_bad=on_bad) as loader:
        got = [arrays(batch) for _, batch in zip(range(2), loader, strict=False)]
        upload(other, url)
        with pytest.raises(SlipformError, match=r"was replaced while it was read|GET .* failed"):
            read_on(loader, got)
    assert_equal(got, want[: len(got)])
    monkeypatch.delenv("SLIPFORM_CACHE_SIZE")
    assert_equal(
        batches(open_loader(url, "host", batch_size=5), 1),
        batches(open_loader(other, "host", batch_size=5), 1),
    )


def test_files_that_do_not_belong_together(
    url: str, photos: Path, object_store: Proxy, tmp_path: Path
) -> None:
    """An upload that was interrupted: one file of another dataset."""
    other = stored.photos(tmp_path / "other", 119)
    open_store(url).put("train.beton", (other / "train.beton").read_bytes())
    with pytest.raises(DatasetError, match=r"was replaced, or its upload has not ended"):
        open_loader(url, "host")
    same_size = bytearray((photos / "train.beton").read_bytes())
    same_size[:] = bytes(len(same_size))
    open_store(url).put("train.beton", bytes(same_size))
    with pytest.raises(SlipformError):
        open_loader(url, "host")


@pytest.mark.parametrize("name", ["dataset.json", "train.beton", "train.crc32.npy"])
def test_a_file_is_missing(name: str, shapes: Path, object_store: Proxy, tmp_path: Path) -> None:
    less = tmp_path / "less"
    shutil.copytree(shapes, less)
    (less / name).unlink()
    url = upload(less, object_store.new_folder())
    with pytest.raises(SlipformError, match=f"{url}/{name} does not exist"):
        open_dataset(url).beton("train")
