"""A store gives exactly the stored bytes or a StorageError, with a server that fails."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from slipform.pipelines.errors import (
    ConfigError,
    DatasetError,
    MissingObjectError,
    SlipformError,
    StorageError,
)
from slipform.pipelines.remote import client
from slipform.pipelines.remote.client import is_remote
from slipform.pipelines.remote.store import open_store
from tests.object_server import KINDS, Fault, Proxy

CONTENT = np.random.default_rng(0).bytes(100_000)


@pytest.mark.parametrize(
    ("text", "remote"),
    [
        ("s3://bucket/data", True),
        ("S3://bucket", True),
        ("gs://bucket/data", True),
        ("az://container/data", True),
        ("http://host/data", True),
        ("https://host/data", True),
        ("data/cifar10", False),
        ("/data", False),
        ("s3:/bucket", False),
        ("s3", False),
        ("file:///data", True),  # and refused: a folder with this name would surprise
        ("s3a://bucket/data", True),
        ("", False),
        (Path("data"), False),
    ],
)
def test_urls_and_paths_are_told_apart(text: object, remote: bool) -> None:
    assert is_remote(text) == remote


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://key:secret@bucket/data", "a URL with a user name or password is refused"),
        ("s3://key:secret/secret@bucket/data", "a URL with a user name or password is refused"),
        ("s3://key:12/secret@bucket/data", "a URL with a user name or password is refused"),
        ("s3a://key:secret@bucket/data", "a URL with a user name or password is refused"),
        ("s3://key:secret/data", "its host or port has a wrong form"),
        ("s3a://bucket/data", "s3a://bucket/data names no folder of an object store"),
        ("file:///data", "file:///data names no folder of an object store"),
        ("https://secret@host/data", "a URL with a user name or password is refused"),
        ("https://host/data?X-Amz-Signature=secret", r"https://host/data\?... is refused"),
        ("https://host/data?", "is refused"),
        ("https://host/data#secret", "is refused"),
        ("s3://", "names no folder of an object store"),
        ("s3:///data", "names no folder of an object store"),
        ("data/cifar10", "names no folder of an object store"),
        ("s3://bucket/../data", "an empty folder name"),
        ("s3://bucket//data", "an empty folder name"),
        ("s3://bucket/a b", "has a space"),
        ("s3://bucket/a\nb", "has a space"),
        ("http://host:port/data", "port"),
        ("http://[::1/data", "Give s3://BUCKET/FOLDER"),
    ],
)
def test_urls_that_are_refused(url: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as found:
        open_store(url)
    assert "secret" not in found.value.message


def test_what_is_written_is_read(object_store: Proxy, tmp_path: Path) -> None:
    url = object_store.new_folder()
    store, other = open_store(f"{url}/data/"), open_store(f"{url}/other")
    assert store.names() == []
    store.put("b.json", b"{}")
    store.put("a/c.bin", CONTENT)
    store.put("empty", b"")
    (tmp_path / "file").write_bytes(CONTENT)
    store.put_file("file", tmp_path / "file")
    other.put("unrelated", b"1")
    assert store.names() == ["a/c.bin", "b.json", "empty", "file"]
    assert store.names("b.") == ["b.json"]
    assert store.sizes() == {"a/c.bin": 100_000, "b.json": 2, "empty": 0, "file": 100_000}
    assert (store.read("b.json"), store.read("file"), store.read("empty")) == (b"{}", CONTENT, b"")
    assert store.size("a/c.bin") == len(CONTENT)
    for start, end in ((0, 1), (17, 4711), (99_990, 100_000), (0, 100_000), (5, 5), (9, 3)):
        assert bytes(store.read_range("file", start, end)) == CONTENT[start:end]
    store.get_file("file", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == CONTENT
    store.put("b.json", b"[1]")
    assert store.read("b.json") == b"[1]"
    assert store.create("d", b"first")
    assert not store.create("d", b"second")
    assert store.read("d") == b"first"
    store.delete(["d"])
    store.delete(["b.json", "no such object"])
    assert store.names("b") == []
    assert other.names() == ["unrelated"]
    assert store.url == f"{url}/data"
    assert store.identity == f"{url}/data at {object_store.url}"


def test_a_large_file_is_sent_in_parts_and_its_progress_is_reported(
    object_store: Proxy, tmp_path: Path
) -> None:
    content, sent = np.random.default_rng(1).bytes(20 << 20), list[int]()
    (tmp_path / "large").write_bytes(content)
    object_store.faults = [Fault("503", "PUT .*partNumber=2"), Fault("reset", "POST .*uploadId")]
    store = open_store(object_store.new_folder())
    store.put_file("large", tmp_path / "large", sent.append)
    parts = {one.path for one in object_store.requests if "partNumber" in one.path}
    assert len(parts) == 3
    assert sum(sent) == len(content)
    store.get_file("large", tmp_path / "copy", sent.append)
    assert (tmp_path / "copy").read_bytes() == content
    assert sum(sent) == 2 * len(content)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("wrong", "stall")])
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
    url = object_store.new_folder()
    open_store(url).put("a", CONTENT)
    store = open_store(url, patience=0.7)
    object_store.faults = [Fault(kind, "GET", 10_000)]
    for read in (lambda: store.read_range("a", 10, 20), lambda: store.read_range("a", 0, 9)):
        with pytest.raises(StorageError) as found:
            read()
        message = found.value.message
        assert f"GET {url}/a" in message
        assert f"(server: {object_store.url})" in message
        assert "Tried" in message
        assert "Check the network and the server" in message
    if kind in ("cut", "short"):
        return
    (tmp_path / "file").write_bytes(CONTENT)
    object_store.faults = [Fault(kind, "PUT", 10_000)]
    for write in (lambda: store.put("b", b"1"), lambda: store.put_file("b", tmp_path / "file")):
        with pytest.raises(StorageError, match=r"PUT .*/b failed"):
            write()
    object_store.reset()
    assert open_store(url).names() == ["a"]


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


def test_public_files_over_http(object_store: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """No credentials are sent. Servers that cannot list say so."""
    server = f"http://127.0.0.1:{object_store.port}"
    store = open_store(f"{server}/bucket/data", patience=0.5)
    with pytest.raises(StorageError, match=r"status 40[34].*|does not exist"):
        store.read("dataset.json")
    with pytest.raises(StorageError, match=f"LIST {server}/bucket/data failed"):
        store.names()
    assert store.identity == f"{server}/bucket/data"


def test_credentials_come_from_the_environment_and_appear_nowhere(
    object_store: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = object_store.new_folder()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token-secret")
    store = open_store(url, patience=0.3)
    object_store.faults = [Fault("500", times=10_000)]
    with pytest.raises(StorageError) as found:
        store.read("a")
    shown = f"{found.value.message} {found.value!r} {found.value.__cause__} {store!r}"
    assert "secret" not in shown + store.identity
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        with monkeypatch.context() as without:
            without.delenv(name)
            without.delenv("AWS_SESSION_TOKEN")
            with pytest.raises(StorageError, match="Put credentials into the environment"):
                open_store(url)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("SLIPFORM_STORAGE_PATIENCE", "soon", "SLIPFORM_STORAGE_PATIENCE=soon: give seconds"),
        ("SLIPFORM_STORAGE_PATIENCE", "0", "give seconds"),
        ("SLIPFORM_STORAGE_PATIENCE", "nan", "give seconds"),
        ("AWS_ENDPOINT_URL", "127.0.0.1:9000", "AWS_ENDPOINT_URL: give http://HOST:PORT"),
        ("AWS_ENDPOINT_URL", "http://secret@host", "AWS_ENDPOINT_URL: give http://HOST:PORT"),
        ("AWS_ENDPOINT_URL_S3", "ftp://host", "AWS_ENDPOINT_URL_S3: give http://HOST:PORT"),
    ],
)
def test_wrong_settings_in_the_environment(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=message) as found:
        open_store("s3://bucket/data")
    assert "secret" not in found.value.message


def test_without_obstore_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(StorageError, match=r'pip install "slipform\[remote\]"'):
        open_store("s3://bucket/data")


def test_the_errors_are_slipform_errors() -> None:
    assert issubclass(MissingObjectError, StorageError)
    assert issubclass(StorageError, SlipformError)
    assert os.environ.get("SLIPFORM_STORAGE_PATIENCE") is None, "tests expect the usual value"
