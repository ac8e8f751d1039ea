"""`prep --out s3://... --shard K/N` and `prep merge s3://...`."""

from __future__ import annotations

import json
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from slipform.pipelines.errors import DatasetError, StorageError
from slipform.pipelines.manifest import FILE_NAME, read_manifest
from slipform.pipelines.remote.store import open_store
from slipform.preprocess import shards
from slipform.preprocess.claim import CLAIM
from slipform.preprocess.cli import main
from slipform.preprocess.merge import merge
from slipform.preprocess.shard_record import Shard
from slipform.preprocess.source import Generated, SampleSource
from tests.object_server import Fault, Proxy
from tests.pipelines import folders
from tests.preprocess.made import COUNT, made, write_all

slow = partial(pytest.param, marks=pytest.mark.slow)


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.mark.parametrize("labels", [pytest.param("single", marks=pytest.mark.slow), "multi"])
def test_the_merged_dataset_is_the_local_one(
    object_store: Proxy, tmp_path: Path, labels: str, own_temporary_folder: Path
) -> None:
    url, source = object_store.new_folder(), made(labels, bad=(3, 20, 21, 39))
    for number in range(COUNT, 0, -1):
        assert shards.write_shard(source, url, Shard(number, COUNT), on_bad="skip")[1]
    assert FILE_NAME not in open_store(url).names()
    merged = merge(url)
    assert write_all(source, tmp_path / "local", on_bad="skip") == merged
    store = open_store(url)
    found = {name: store.read(name) for name in store.names() if name != CLAIM}
    assert found == {path.name: path.read_bytes() for path in (tmp_path / "local").iterdir()}
    assert read_manifest(url) == merged
    assert merge(url) == merged
    assert not list(own_temporary_folder.iterdir())


def _large() -> SampleSource:
    """Samples of 8 KB, so that the tables are small beside them."""
    pixels = [folders.noise(90, 90, index) for index in range(12)]
    samples = Generated(pixels.__getitem__, np.arange(12) % 3, "large")
    return SampleSource("made", list("abc"), {"train": samples}, "as made")


def test_merge_and_a_finished_shard_read_tables_only(object_store: Proxy) -> None:
    url = object_store.new_folder()
    for number in (1, 2):
        shards.write_shard(_large(), url, Shard(number, 2))
    store = open_store(url)
    whole = sum(size for name, size in store.sizes().items() if name.endswith(".beton"))
    for again in (lambda: shards.write_shard(_large(), url, Shard(1, 2)), lambda: merge(url)):
        object_store.reset()
        again()
        read = [one for one in object_store.requests if one.path.endswith(".beton")]
        assert read
        assert all(one.bytes_range for one in read if one.method == "GET")
        assert sum(one.num_bytes for one in read) < whole / 10


@pytest.mark.parametrize(
    "damage",
    [
        *("no record", "short beton", "other table"),
        *(pytest.param(x, marks=pytest.mark.slow) for x in ("bad record", "no beton", "no names")),
    ],
)
def test_a_finished_shard_is_skipped_and_a_damaged_one_is_written_again(
    object_store: Proxy, damage: str
) -> None:
    url, shard = object_store.new_folder(), Shard(2, COUNT)
    store = open_store(url)
    shards.write_shard(made(), url, shard)
    before = {name: store.read(name) for name in store.names()}
    object_store.requests.clear()
    assert not shards.write_shard(made(), url, shard)[1]
    assert not [one for one in object_store.requests if one.method not in ("GET", "HEAD")]
    beton = shard.file("train")
    if damage == "bad record":
        store.put(shard.record, b"{")
    elif damage == "short beton":
        store.put(beton, before[beton][:-3])
    elif damage == "other table":
        store.put("val-00002-of-00005.crc32.npy", before["train-00002-of-00005.crc32.npy"])
    else:
        gone = {"no record": shard.record, "no beton": beton}
        store.delete([gone.get(damage, "train-00002-of-00005.names.txt")])
    assert shards.write_shard(made(), url, shard)[1]
    assert {name: store.read(name) for name in store.names()} == before


def test_a_failed_upload_leaves_no_finished_shard(
    object_store: Proxy, monkeypatch: pytest.MonkeyPatch, own_temporary_folder: Path
) -> None:
    """The scheduler repeats the command. The record is sent after all other files."""
    url, shard = object_store.new_folder(), Shard(1, COUNT)
    with monkeypatch.context() as impatient:
        impatient.setenv("SLIPFORM_STORAGE_PATIENCE", "0.1")
        object_store.faults = [Fault("500", "PUT .*/val-", 10_000)]
        with pytest.raises(StorageError, match=r"PUT .*/val-00001-of-00005.* failed"):
            shards.write_shard(made(), url, shard)
    object_store.reset()
    assert shard.record not in open_store(url).names()
    with pytest.raises(DatasetError, match=f"{url} has no finished shard"):
        merge(url)
    assert shards.write_shard(made(), url, shard)[1]
    written = [one.path for one in object_store.requests if one.method == "PUT"]
    assert written[-1].endswith(shard.record)
    assert not list(own_temporary_folder.iterdir())


@pytest.fixture(scope="module")
def finished() -> dict[str, bytes]:
    """The objects of all shards, once a test has written them."""
    return {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("missing", "1 of 5 shards are not finished: 4/5"),
        ("size", "train-00004-of-00005.beton has .* bytes, not"),
        slow("gone", "train-00004-of-00005.beton does not exist"),
        ("table", "train-00004-of-00005.beton or train-00004-of-00005.crc32.npy beside it is not"),
        slow("names", "val-00004-of-00005.names.txt is not the file that prep wrote"),
        slow("record", "shard-00004-of-00005.json is damaged"),
        ("version", r"shards 1/5 and 4/5 do not belong together \(other versions of slipform\)"),
    ],
)
def test_merge_refuses_what_is_not_complete(
    object_store: Proxy,
    own_temporary_folder: Path,
    finished: dict[str, bytes],
    change: str,
    message: str,
) -> None:
    url, record = object_store.new_folder(), Shard(4, COUNT).record
    store, beton = open_store(url), "train-00004-of-00005.beton"
    if not finished:
        for number in range(1, COUNT + 1):
            shards.write_shard(made(), url, Shard(number, COUNT))
        finished |= {name: bytes(store.read(name)) for name in store.names()}
    else:
        for name, content in finished.items():
            store.put(name, content)
    if change == "missing":
        store.delete([record])
    elif change == "size":
        store.put(beton, store.read(beton)[:-1])
    elif change == "gone":
        store.delete([beton])
    elif change == "table":
        table = store.read("train-00004-of-00005.crc32.npy")
        store.put("train-00004-of-00005.crc32.npy", table[:-1] + bytes([table[-1] ^ 1]))
    elif change == "names":
        store.put("val-00004-of-00005.names.txt", b"other\n")
    else:
        content = json.loads(store.read(record)) | {"slipform": "0.0.1"}
        store.put(record, b"{" if change == "record" else json.dumps(content).encode())
    with pytest.raises(DatasetError, match=message) as found:
        merge(url)
    assert url in found.value.message
    assert str(own_temporary_folder) not in found.value.message
    assert FILE_NAME not in store.names()


def test_shards_of_another_dataset_are_refused(object_store: Proxy) -> None:
    url = object_store.new_folder()
    shards.write_shard(made(), url, Shard(1, COUNT))
    for number in (1, 2):
        with pytest.raises(DatasetError, match=f"{url} holds shard 1/5 of another dataset"):
            shards.write_shard(made(label=1), url, Shard(number, COUNT))


def test_the_commands(object_store: Proxy) -> None:
    def run(*words: str, code: int = 0) -> str:
        result = CliRunner().invoke(main, words)
        assert result.exit_code == code, result.output
        return result.output

    url = object_store.new_folder()
    shapes = ["shapes", "--num-train", "30", "--out", url]
    for number in (1, 2, 3):
        output = run(*shapes, "--shard", f"{number}/3")
        assert f"shard {number}/3: written" in output
        assert f"slipform prep merge {url}" in output
    assert "was finished before" in run(*shapes, "--shard", "2/3")
    assert "holds shards, or an interrupted upload" in run(*shapes, code=1)
    assert f"slipform train {url}" in run("merge", url)
    assert "no fault" in run("verify", url)
