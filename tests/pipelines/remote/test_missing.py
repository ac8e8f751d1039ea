"""What a user is told about a wrong URL, a wrong bucket, credentials, regions and servers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from slipform.pipelines.errors import DatasetError, MissingObjectError, StorageError
from slipform.pipelines.manifest import read_manifest
from slipform.pipelines.remote.store import open_store
from slipform.preprocess.prep import prepare
from tests.object_server import BUCKET, Fault, Proxy


@pytest.fixture
def folder(object_store: Proxy) -> str:
    """A folder with two datasets, and an upload that has not ended."""
    found = object_store.new_folder()
    for name in ("cifar10/dataset.json", "caltech101/dataset.json", "new/train.beton"):
        open_store(found).put(name, b"{}")
    return found


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("", r"{url} has the folders caltech101, cifar10, new\.$"),
        ("/cifar100", r'{url} has the folders caltech101, .*\. Did you mean "cifar10"\?$'),
        ("/a/b/c", r"{url} has the folders caltech101, cifar10, new\.$"),
        ("/new", r"The folder has train.beton: its upload has not ended.*Run prep again"),
    ],
)
def test_a_folder_without_a_dataset(name: str, told: str, folder: str, object_store: Proxy) -> None:
    with pytest.raises(MissingObjectError) as found:
        read_manifest(folder + name)
    message = found.value.message
    assert f"{folder}{name}/dataset.json does not exist (server: {object_store.url})" in message
    assert re.search(told.format(url=folder), message), message


def test_a_bucket_that_does_not_exist_or_is_empty(object_store: Proxy) -> None:
    with pytest.raises(MissingObjectError, match=r"The bucket no-such does not exist.*its name"):
        read_manifest("s3://no-such/data")
    for _ in range(12):
        open_store(object_store.new_folder()).put("a/b", b"")
    with pytest.raises(MissingObjectError, match=f"s3://{BUCKET} has the folders .* and .* more"):
        read_manifest(f"s3://{BUCKET}/nothing/here")


@pytest.mark.parametrize("verb", ["HEAD", "GET"])
def test_refused_credentials(
    verb: str, folder: str, object_store: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variables that are read are named, and what is set, but not their values."""
    object_store.faults = [Fault("403", verb, times=100)]
    with pytest.raises(StorageError) as found:
        read_manifest(f"{folder}/cifar10")
    message = found.value.message
    assert "AWS_ACCESS_KEY_ID (set), AWS_SECRET_ACCESS_KEY (set), AWS_SESSION_TOKEN (not" in message
    assert "A name that does not exist is refused, too" in message
    assert "Tried 1 time" in message
    assert "any-secret" not in message


def test_what_may_not_be_listed(folder: str, object_store: Proxy) -> None:
    object_store.faults = [Fault("403", "GET .*list-type", times=100)]
    with pytest.raises(MissingObjectError, match=r"dataset.json does not exist.*cannot be listed"):
        read_manifest(f"{folder}/nothing")


def test_a_wrong_region(folder: str, object_store: Proxy) -> None:
    """S3 answers without the place to which it redirects."""
    object_store.faults = [Fault("301", times=100)]
    with pytest.raises(StorageError, match=r"Set AWS_REGION to .*\(it is us-east-1 now\)") as found:
        read_manifest(f"{folder}/cifar10")
    assert "Tried 1 time" in found.value.message


def test_a_server_without_a_name(monkeypatch: pytest.MonkeyPatch, object_store: Proxy) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://no-such-server.invalid:9000")
    monkeypatch.setenv("SLIPFORM_STORAGE_PATIENCE", "0.1")
    with pytest.raises(StorageError, match=r"The name of the server is not known here") as found:
        read_manifest("s3://bucket/data")
    assert "no-such-server.invalid" in found.value.message


def test_a_server_that_gives_no_parts_of_objects(
    folder: str, object_store: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A login page of a proxy, for example: status 200 for any request."""
    monkeypatch.setenv("SLIPFORM_STORAGE_PATIENCE", "0.1")
    object_store.faults = [Fault("200", "GET", times=100)]
    with pytest.raises(StorageError, match=r"requests for a part of an object \(header Range\)"):
        read_manifest(f"{folder}/cifar10")


def test_a_url_with_one_slash() -> None:
    """Also what `Path` makes of a URL."""
    with pytest.raises(DatasetError, match=r"Did you mean s3://bucket/data\?"):
        read_manifest(Path("s3://bucket/data"))
    with pytest.raises(DatasetError, match=r"is not a folder\. Make a dataset first"):
        read_manifest("c:/data")
    with pytest.raises(DatasetError, match=r"--source is a URL.*Copy them to a folder first"):
        prepare("images", source="s3://bucket/photos", out="data")
