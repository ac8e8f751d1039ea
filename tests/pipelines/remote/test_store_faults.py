"""A server that fails: a store gives exactly the stored bytes or a StorageError."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from slipform.pipelines.errors import (
    DatasetError,
    MissingObjectError,
    StorageError,
)
from slipform.pipelines.remote import client
from slipform.pipelines.remote.store import open_store
from tests.object_server import KINDS, Fault, Proxy

CONTENT = np.random.default_rng(0).bytes(100_000)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("wrong", "stall", "drip")])
def test_a_fault_that_ends_is_not_noticed(object_store: Proxy, kind: str, tmp_path: Path) -> None:
    store = open_store(object_store.new_folder())
    (tmp_path / "file").write_bytes(CONTENT)
    object_store.faults = [Fault(kind, "PUT", 2)] if kind not in ("cut", "short") else []
    store.put("a", CONTENT)
    store.put_file("b", tmp_path / "file")
    object_store.reset()
    for read in (lambda: store.read("a"), lambda: bytes(store.read_range("b", 0, 100_000))):
        object_store.faults = [Fault(kind, "GET", 3)]
        assert read() == CONTENT
        assert sum(one.method == "GET" for one in object_store.requests) == 4
        object_store.reset()
    if kind != "cut":
        object_store.faults = [Fault(kind, "GET .*list-type")]
        assert store.names() == ["a", "b"]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "wrong"])
def test_a_fault_that_stays_is_an_error(
    object_store: Proxy, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says what failed, where, how often it was tried, and what to do."""
    if kind == "stall":
        monkeypatch.setattr(client, "_SILENCE", 0.5)
    if kind == "drip":
        monkeypatch.setattr(client, "_READ_LIMIT", 0.5)
        monkeypatch.setattr(client, "_SEND_LIMIT", 0.5)
    url = object_store.new_folder()
    open_store(url).put("a", CONTENT)
    store = open_store(url, patience=0.4)
    object_store.faults = [Fault(kind, "GET", 10_000)]
    for read in (lambda: store.read_range("a", 10, 20), lambda: store.read_range("a", 0, 9)):
        with pytest.raises(StorageError) as found:
            read()
        message = found.value.message
        assert f"GET {url}/a" in message
        assert f"(server: {object_store.url})" in message
        assert "Tried" in message
        assert "Check the network and the server" in message
        assert kind not in ("stall", "drip") or "or not to its end, in time. Tried" in message
    if kind in ("cut", "short"):
        return
    (tmp_path / "file").write_bytes(CONTENT)
    object_store.faults = [Fault(kind, "PUT", 10_000)]
    for write in (lambda: store.put("b", b"1"), lambda: store.put_file("b", tmp_path / "file")):
        with pytest.raises(StorageError, match=r"PUT .*/b failed"):
            write()
    object_store.reset()
    if kind == "drip":  # the server gets the object, perhaps late; only its answer does not come
        while open_store(url).names() != ["a", "b"]:
            time.sleep(0.01)
    else:
        assert open_store(url).names() == ["a"]


def test_an_answer_that_does_not_end_is_asked_for_again(
    object_store: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_READ_LIMIT", 2.0)
    store = open_store(object_store.new_folder())
    store.put("a", CONTENT)
    object_store.faults = [Fault("drip", "GET")]
    assert store.read("a") == CONTENT


def test_no_server(object_store: Proxy) -> None:
    store = open_store(object_store.new_folder(), patience=0.5)
    object_store.down = True
    for call in (store.names, lambda: store.read("a"), lambda: store.put("a", b"1")):
        with pytest.raises(StorageError, match="Check the network and the server"):
            call()


def test_many_threads_read_exact_bytes_from_a_bad_server(object_store: Proxy) -> None:
    store = open_store(object_store.new_folder())
    store.put("a", CONTENT)
    object_store.chance = {"500": 0.1, "reset": 0.1, "cut": 0.1, "short": 0.1}
    starts = np.random.default_rng(2).integers(0, 99_000, 120).tolist()

    def read(start: int) -> bool:
        return bytes(store.read_range("a", start, start + 1000)) == CONTENT[start : start + 1000]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, starts))
    assert len(object_store.requests) > 120


def test_what_cannot_succeed_is_tried_once(object_store: Proxy) -> None:
    url = object_store.new_folder()
    store, nowhere = open_store(url), open_store("s3://no-such-bucket/data")
    store.put("a", CONTENT)
    for call, error, message in (
        (lambda: store.read("b"), MissingObjectError, f"{url}/b does not exist"),
        (lambda: store.read_range("b", 0, 9), MissingObjectError, "does not exist"),
        (lambda: store.size("b"), MissingObjectError, "does not exist"),
        (lambda: store.read("a", limit=99_999), DatasetError, "has 100,000 bytes. At most 99,999"),
        (lambda: store.read_range("a", 100_000, 100_001), StorageError, "InvalidRange"),
        (nowhere.names, StorageError, "NoSuchBucket.*Create the bucket first"),
        (lambda: nowhere.read_range("a", 0, 1), StorageError, "NoSuchBucket.*Create the bucket"),
        (lambda: nowhere.read("a"), MissingObjectError, "no-such-bucket/data/a does not exist"),
        (lambda: nowhere.put("a", b""), StorageError, "NoSuchBucket.*Create the bucket first"),
    ):
        count = len(object_store.requests)
        with pytest.raises(error, match=message):
            call()
        assert len(object_store.requests) == count + 1


def test_an_object_that_is_too_short_is_an_error(object_store: Proxy) -> None:
    url = object_store.new_folder()
    open_store(url).put("a", CONTENT)
    with pytest.raises(StorageError, match="10 bytes instead of 20"):
        open_store(url, patience=0.3).read_range("a", 99_990, 100_010)
