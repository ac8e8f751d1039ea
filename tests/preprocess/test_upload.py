"""`prep --out s3://...`: the dataset in an object store is the local one, or there is none."""

from __future__ import annotations

import signal
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from slipform.pipelines.errors import DatasetError, SlipformError, StorageError
from slipform.pipelines.manifest import FILE_NAME, read_manifest
from slipform.pipelines.remote.store import Store, open_store
from slipform.preprocess.build import build_dataset
from slipform.preprocess.claim import CLAIM, is_trial
from slipform.preprocess.cli import main
from slipform.preprocess.places import place_of
from slipform.preprocess.prep import prepare
from slipform.preprocess.shard_record import Shard
from slipform.preprocess.shards import write_shard
from slipform.preprocess.source import Generated, SampleSource
from tests.object_server import Fault, Proxy
from tests.preprocess.made import made
from tests.warm import Warm


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where datasets are written before they are uploaded. It must be empty after each test."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def contents(store: Store) -> dict[str, bytes]:
    return {name: store.read(name) for name in store.names()}


def run(*words: str, code: int = 0) -> str:
    result = CliRunner().invoke(main, words)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result.output


@pytest.mark.parametrize("labels", [pytest.param("single", marks=pytest.mark.slow), "multi"])
def test_the_objects_are_the_files_of_a_local_dataset(
    object_store: Proxy, tmp_path: Path, labels: str, own_temporary_folder: Path
) -> None:
    url, source = object_store.new_folder(), made(labels, bad=(3, 40))
    manifest = build_dataset(source, url, on_bad="skip")
    assert build_dataset(source, tmp_path / "local", on_bad="skip") == manifest
    expected = {path.name: path.read_bytes() for path in (tmp_path / "local").iterdir()}
    assert contents(open_store(url)) == expected
    assert read_manifest(url) == manifest
    written = [one.path for one in object_store.requests if one.method == "PUT"]
    assert written[-1].endswith(f"/{FILE_NAME}"), "dataset.json makes the dataset complete"
    assert not list(own_temporary_folder.iterdir())


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(("train.beton", "reset"), (FILE_NAME, "500")),
        *(
            pytest.param(*pair, marks=pytest.mark.slow)
            for pair in (
                *(("train.beton", "500"), (FILE_NAME, "reset")),
                *(("val.names.txt", "500"), ("val.names.txt", "reset")),
            )
        ),
    ],
)
def test_a_failed_upload_is_no_dataset(
    object_store: Proxy,
    monkeypatch: pytest.MonkeyPatch,
    own_temporary_folder: Path,
    name: str,
    kind: str,
) -> None:
    """The error says where. The same command with --overwrite completes it."""
    url = object_store.new_folder()
    object_store.faults = [Fault(kind, f"PUT .*/{name}", 10_000)]
    with monkeypatch.context() as impatient:
        impatient.setenv("SLIPFORM_STORAGE_PATIENCE", "0.1")
        with pytest.raises(StorageError, match=f"PUT {url}/{name} failed"):
            build_dataset(made(), url)
    assert not list(own_temporary_folder.iterdir())
    object_store.reset()
    assert FILE_NAME not in open_store(url).names()
    if name != FILE_NAME:
        assert name not in open_store(url).names()
    if open_store(url).names():
        with pytest.raises(DatasetError, match=r"or was interrupted: process .* add --overwrite"):
            build_dataset(made(), url)
    manifest = build_dataset(made(), place_of(url, overwrite=True))
    assert read_manifest(url) == manifest


@pytest.mark.parametrize(
    ("refused", "shard"),
    [
        *(("PUT", shard) for shard in ("", "1/2")),
        *(("GET .*list-type", shard) for shard in ("", "1/2")),
        ("POST .*delete", ""),
    ],
)
def test_missing_rights_are_found_before_the_work(
    object_store: Proxy, refused: str, shard: str
) -> None:
    """No image is drawn. At most the object of the trial stays, until the next prep."""
    url = object_store.new_folder()
    object_store.faults = [Fault("403", refused, 10_000)]

    def read(index: int) -> bytes:
        raise AssertionError("the work has begun")

    samples = Generated(read, np.zeros(3, np.int64), "made")
    source = SampleSource("made", ["a"], {"train": samples}, "")
    write = partial(write_shard, shard=Shard.parse(shard)) if shard else build_dataset
    with pytest.raises(StorageError, match=r"status 403.*what they may do: AWS_ACCESS_KEY_ID"):
        write(source, url)
    object_store.reset()
    assert all(is_trial(name) for name in open_store(url).names())
    manifest = build_dataset(made(), url)
    assert read_manifest(url) == manifest
    assert [name for name in open_store(url).names() if is_trial(name)] == []


def test_a_shard_is_written_without_the_right_to_delete(object_store: Proxy) -> None:
    url = object_store.new_folder()
    object_store.faults = [Fault("403", "POST .*delete", 10_000)]
    write_shard(made(), url, Shard.parse("1/2"))
    object_store.reset()
    names = open_store(url).names()
    assert "shard-00001-of-00002.json" in names
    assert len([name for name in names if is_trial(name)]) == 1


def test_faults_that_end_have_no_effect(object_store: Proxy, tmp_path: Path) -> None:
    object_store.chance = {"500": 0.15, "reset": 0.15}
    url = object_store.new_folder()
    build_dataset(made(), url)
    assert any(one.status in (0, 500) for one in object_store.requests)
    build_dataset(made(), tmp_path / "local")
    expected = {path.name: path.read_bytes() for path in (tmp_path / "local").iterdir()}
    assert contents(open_store(url)) == expected


def test_an_existing_dataset_is_replaced_only_if_that_is_asked_for(object_store: Proxy) -> None:
    url = object_store.new_folder()
    small, large = (
        {"dataset": "shapes", "out": url, "num_train": number, "num_val": 0} for number in (12, 24)
    )
    prepare(**small, num_test=6)
    store = open_store(url)
    before = contents(store)
    with pytest.raises(DatasetError, match=f"{url} holds a dataset. Add --overwrite"):
        prepare(**large, num_test=0)
    assert contents(store) == before
    object_store.requests.clear()
    manifest = prepare(**large, num_test=0, overwrite=True)
    assert list(manifest.splits) == ["train"]
    assert read_manifest(url) == manifest
    assert not [name for name in store.names() if name.startswith("test")], "of the old dataset"
    methods = [(one.method, one.path.split("?")[0]) for one in object_store.requests]
    methods = [one for one in methods if not one[1].endswith(CLAIM)]
    trial = next(k for k, (_, path) in enumerate(methods) if is_trial(path.rpartition("/")[2]))
    methods = methods[trial + 2 :]  # it is written and deleted
    deleted = next(k for k, (method, path) in enumerate(methods) if method in ("POST", "DELETE"))
    assert deleted < next(k for k, (method, _) in enumerate(methods) if method == "PUT")


@pytest.mark.parametrize("name", ["notes/thesis.tex", "prep-trial-results.txt"])
def test_other_objects_are_not_deleted(object_store: Proxy, name: str) -> None:
    url = object_store.new_folder()
    store = open_store(url)
    store.put(name, b"years of work")
    for overwrite in (False, True):
        with pytest.raises(DatasetError, match=f"holds {name}, which prep did not write"):
            build_dataset(made(), place_of(url, overwrite=overwrite))
    assert contents(store) == {name: b"years of work"}


def test_unusable_samples_write_nothing(object_store: Proxy, own_temporary_folder: Path) -> None:
    url = object_store.new_folder()
    with pytest.raises(DatasetError, match="1 samples cannot be used"):
        build_dataset(made(bad=(3,)), url)
    assert open_store(url).names() == []
    assert not list(own_temporary_folder.iterdir())


_KILLED = """
import os, signal, sys, tempfile
from slipform.pipelines.remote.store import Store
from slipform.preprocess.build import build_dataset
from tests.preprocess.made import made
tempfile.tempdir = None  # that of the warm process
put_file, left = Store.put_file, int(sys.argv[2])
def killed(self, name, path, progress):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    put_file(self, name, path, progress)
Store.put_file = killed
build_dataset(made(), sys.argv[1])
"""


@pytest.mark.parametrize("files", [3, *(pytest.param(n, marks=pytest.mark.slow) for n in (0, 7))])
def test_a_killed_prep_leaves_no_dataset(
    object_store: Proxy, own_temporary_folder: Path, files: int, warm_process: Warm
) -> None:
    """The next one removes what it left on this machine."""
    url = object_store.new_folder()
    ended = warm_process.run(_KILLED, url, files)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    names = open_store(url).names()
    assert len({*names} - {CLAIM}) == files
    assert FILE_NAME not in names
    assert list(own_temporary_folder.iterdir())
    build_dataset(made(), place_of(url, overwrite=True))
    assert FILE_NAME in open_store(url).names()
    assert not list(own_temporary_folder.iterdir())


def test_verify_reads_every_byte(object_store: Proxy, own_temporary_folder: Path) -> None:
    url = object_store.new_folder()
    build_dataset(made(), url)
    store = open_store(url)
    assert f"{url}: 46 samples, no fault" in run("verify", url)
    beton = bytearray(store.read("train.beton"))
    beton[len(beton) // 2] ^= 1
    store.put("train.beton", bytes(beton))
    store.delete(["val.beton"])
    output = run("verify", url, code=1)
    assert "train: train.beton is not the file that was written" in output
    assert f"of {url}/train.beton is damaged" in output
    assert f"val: {url}/val.beton does not exist" in output
    assert str(own_temporary_folder) not in output
    assert not list(own_temporary_folder.iterdir())


def test_wrong_bytes_on_the_way_are_faults(object_store: Proxy) -> None:
    url = object_store.new_folder()
    build_dataset(made(), url)
    object_store.faults = [Fault("wrong", "GET .*/train.beton")]
    assert "train.beton is not the file that was written" in run("verify", url, code=1)


def test_the_commands(object_store: Proxy) -> None:
    url = object_store.new_folder()
    shapes = ["shapes", "--num-train", "12", "--num-val", "0", "--num-test", "0", "--out", url]
    output = run(*shapes)
    assert f"slipform prep show {url}\n  slipform train {url}" in output
    assert "holds a dataset. Add --overwrite" in run(*shapes, code=1)
    assert f"slipform train {url}" in run(*shapes, "--overwrite")
    assert "12" in run("show", url)
    assert "local copy" in run("show", url, "--figure", "f.png", code=2)
    assert "local copy" in run("verify", url, "--csv", "f.csv", code=2)
    assert "without shards" in run(*shapes, "--overwrite", "--shard", "1/2", code=2)
    assert "--overwrite is for URLs" in run(*shapes[:-1], "local", "--overwrite", code=2)
    assert "a user name or password" in run(*shapes[:-1], "s3://a:b@c/d", code=1)
    missing = object_store.new_folder()
    assert f"{missing}/dataset.json does not exist" in run("verify", missing, code=1)


def test_progress_of_an_upload(object_store: Proxy) -> None:
    place, sent = place_of(object_store.new_folder()), []
    place.report_to(lambda num_bytes, total: sent.append((num_bytes, total)))
    build_dataset(made(), place)
    totals = {total for _, total in sent}
    assert len(totals) == 1
    assert sum(number for number, _ in sent) == totals.pop()


def test_errors_are_of_one_class(object_store: Proxy) -> None:
    for url in ("s3://no-such-bucket/data", "s3://no-such-bucket"):
        with pytest.raises(SlipformError, match="Create the bucket first"):
            build_dataset(made(), url)
