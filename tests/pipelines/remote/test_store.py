"""A store gives exactly the stored bytes, and refuses URLs and settings that are wrong."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from slipform.pipelines.errors import (
    ConfigError,
    MissingObjectError,
    SlipformError,
    StorageError,
)
from slipform.pipelines.remote.client import is_remote
from slipform.pipelines.remote.store import open_store
from tests.object_server import Fault, Proxy

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


def test_large_ranges_are_several_requests(
    object_store: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them ends in time on a slow line."""
    monkeypatch.setattr("slipform.pipelines.remote.store._PIECE", 30_000)
    store = open_store(object_store.new_folder())
    store.put("a", CONTENT)
    object_store.reset()
    assert bytes(store.read_range("a", 1000, 71_000)) == CONTENT[1000:71_000]
    ranges = [one.bytes_range for one in object_store.requests]
    assert ranges == ["bytes=1000-30999", "bytes=31000-60999", "bytes=61000-70999"]


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
