"""Training on a dataset in an object store is training on the local one, bit for bit."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from safetensors.torch import load_file

from slipform.pipelines.errors import ConfigError, StorageError
from slipform.pipelines.manifest import read_manifest
from slipform.pipelines.mirror.folder import local_folder
from slipform.train.cli import train, validate
from slipform.train.config.run_config import RunConfig
from slipform.train.config.toml import to_toml
from slipform.train.inference.data import data_notes
from slipform.train.run import open as open_module
from slipform.train.run.folder import run_config
from slipform.train.run.loop import fit
from slipform.train.run.record import Recorder
from tests.object_server import Fault, Proxy
from tests.pipelines.mirror.stored import SAMPLES, fetch_in_each_epoch, upload
from tests.processes import finish, torchrun

pytestmark = pytest.mark.usefixtures("no_figures")
SECRET = "a-marker-that-is-nowhere"
Small = Callable[..., RunConfig]


@pytest.fixture
def url(object_store: Proxy, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """`shapes` in the store, an empty cache, and a secret key that can be searched for."""
    monkeypatch.setenv("SLIPFORM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    return upload(shapes, object_store.new_folder())


def _assert_same_weights(run: Path, other: Path) -> None:
    one, two = (load_file(path / "best.safetensors") for path in (run, other))
    assert one.keys() == two.keys()
    assert all(one[name].equal(two[name]) for name in one)


def test_commands_take_a_url(url: str, shapes: Path, small: Small, tmp_path: Path) -> None:
    recipe, run, local = tmp_path / "small.toml", tmp_path / "run", tmp_path / "local"
    recipe.write_text(to_toml(small()))
    output = ""
    for data, out in ((str(shapes), local), (url, run)):
        result = CliRunner().invoke(train, [data, "--recipe", str(recipe), "--out", str(out)])
        assert result.exit_code == 0, result.output
        output += result.output
    _assert_same_weights(run, local)
    assert run_config(run).data.folder == url
    judged = []
    for arguments in ([str(run)], [str(run), url], [str(local)], [str(run), str(shapes)]):
        result = CliRunner().invoke(validate, arguments)
        assert result.exit_code == 0, result.output
        judged.append(result.stdout.splitlines()[-1])
        output += result.output
    assert len(set(judged)) == 1
    assert SECRET not in output
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 20
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]
    assert not [path for path in files if b"test-key" in path.read_bytes()]


def test_messages_name_the_url_of_another_dataset(
    url: str, shapes: Path, small: Small, tmp_path: Path
) -> None:
    """The folder of the mirror means nothing to a user."""
    run, other = tmp_path / "run", tmp_path / "other"
    fit(small(), url, run, device="cpu", quiet=True)
    shutil.copytree(shapes, other)
    text = (other / "dataset.json").read_text()
    (other / "dataset.json").write_text(re.sub(r'sha256": "....', 'sha256": "0123', text))
    upload(other, url)
    told = f"{url} is not the dataset that {run} was trained on: train has other images"
    with pytest.raises(ConfigError, match=re.escape(told)):
        fit(small(), url, run, device="cpu", resume=True, quiet=True)
    notes = data_notes(read_manifest(run), local_folder(url), "val")
    assert [note.partition(" is not")[0] for note in notes] == [url]


def test_a_run_continues_when_the_server_is_back(
    url: str,
    shapes: Path,
    small: Small,
    object_store: Proxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fetch_in_each_epoch(monkeypatch, shapes, tmp_path / "cache")
    config = small()
    fit(config, shapes, tmp_path / "local", device="cpu", quiet=True)
    fit(config, url, tmp_path / "whole", device="cpu", quiet=True)
    _assert_same_weights(tmp_path / "whole", tmp_path / "local")
    count = sum(bool(SAMPLES.search(one.text)) for one in object_store.requests)
    object_store.reset()
    object_store.faults = [Fault("reset", "beton bytes=", times=100_000, after=count * 3 // 4)]
    monkeypatch.setenv("SLIPFORM_CACHE", str(tmp_path / "another"))
    monkeypatch.setenv("SLIPFORM_STORAGE_PATIENCE", "0.5")
    with pytest.raises(StorageError, match="continue a run with: train --resume RUN"):
        fit(config, url, tmp_path / "run", device="cpu", quiet=True)
    object_store.faults = []
    monkeypatch.delenv("SLIPFORM_STORAGE_PATIENCE")
    result = CliRunner().invoke(train, ["--resume", str(tmp_path / "run"), "--quiet"])
    assert result.exit_code == 0, result.output
    _assert_same_weights(tmp_path / "run", tmp_path / "local")


@pytest.mark.slow
def test_two_processes_share_a_small_cache(
    url: str, shapes: Path, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against two processes with the local dataset."""
    size = sum(path.stat().st_size for path in shapes.glob("*.beton"))
    monkeypatch.setenv("SLIPFORM_CACHE_SIZE", str(size // 2))
    recipe = tmp_path / "small.toml"
    recipe.write_text(to_toml(small("train.batch_size=20")))
    for data, run in ((shapes, "local"), (url, "run")):
        words = (data, "--recipe", recipe, "--out", tmp_path / run, "--device", "cpu")
        finish(torchrun(2, "-m", "slipform.train.cli", *words))
    _assert_same_weights(tmp_path / "run", tmp_path / "local")
    assert run_config(tmp_path / "run").data.folder == url


def test_records_are_closed_if_the_first_batches_cannot_be_made(
    shapes: Path, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed, close = [], Recorder.close

    def closes(recorder: Recorder) -> None:
        closed.append(recorder)
        close(recorder)

    def fails(*_: object) -> None:
        raise StorageError("no network")

    monkeypatch.setattr(open_module, "warm_up", fails)
    monkeypatch.setattr(Recorder, "close", closes)
    with pytest.raises(StorageError, match="no network"):
        fit(small(), shapes, tmp_path / "run", device="cpu", quiet=True)
    assert len(closed) == 1


@pytest.mark.parametrize(
    "text",
    ["s3://key:{0}@bucket/data", "s3://key:{0}/x@bucket/data", "https://host/data?signature={0}"],
)
def test_a_url_with_a_secret_is_refused(text: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(train, [text.format(SECRET), "--out", str(tmp_path / "run")])
    assert result.exit_code == 1
    assert "refused" in result.output
    assert SECRET not in result.output
    assert not (tmp_path / "run").exists()
