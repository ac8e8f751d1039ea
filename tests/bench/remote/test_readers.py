"""Every reader gets the same images from the object store, and counts what it fetches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from slipform.bench.race.remote import Conditions, copy_images, run_race, turn, upload
from slipform.bench.race.worker import CallFailed, isolated
from slipform.bench.remote import Remote, chosen_readers, load_reader
from slipform.bench.result.result import read_result
from slipform.bench.suites import remote as suite
from slipform.bench.work import Work, usual_work
from slipform.pipelines.beton import Beton
from slipform.pipelines.errors import ConfigError
from slipform.pipelines.plan.augmentation import Augmentation
from tests.object_server import Proxy

PEERS = {"litdata": "litdata", "mosaic": "streaming"}
IMAGES, BATCH = 48, 12


@pytest.fixture
def work(shapes: Path, tmp_path: Path) -> Work:
    """48 JPEGs of the shapes, the same pixels in each epoch."""
    copy_images(shapes, IMAGES, tmp_path / "data")
    found = usual_work(tmp_path / "data", batch_size=BATCH, cores=1, device="cpu", dtype="float32")
    return replace(found, augment=Augmentation(image_size=32, resize=36, normalize="imagenet"))


def test_the_copy_has_the_bytes_of_the_dataset(shapes: Path, tmp_path: Path) -> None:
    copy_images(shapes, IMAGES, tmp_path / "data")
    whole, copy = Beton(shapes / "train.beton"), Beton(tmp_path / "data/train.beton")
    stored = {whole.bytes_of(k).tobytes(): int(whole.labels[k]) for k in range(len(whole))}
    assert len(copy) == IMAGES
    for index in range(IMAGES):
        assert stored[copy.bytes_of(index).tobytes()] == copy.labels[index]
    copy_images(shapes, 10_000, tmp_path / "all")
    assert len(Beton(tmp_path / "all/train.beton")) == len(whole)


@pytest.mark.parametrize("name", ["slipform", *PEERS])
def test_a_reader_reads_each_image_once(
    work: Work,
    object_store: Proxy,
    name: str,
    needs: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two epochs in a process of their own. The second one comes from the cache."""
    if name in PEERS:
        needs(PEERS[name])
    url = object_store.new_folder()
    call: Callable[..., Any] = isolated
    if name == "slipform":  # it leaves no threads behind
        monkeypatch.setenv("SLIPFORM_CACHE", "its reader sets this")
        call = _here
    call(upload, name, work, url)
    settings = load_reader(name).candidates(work)[0]
    found = turn(name, Remote(work, url, ""), settings, object_store)
    assert set(found) == {
        f"{cache}_{figure}"
        for cache in ("cold", "warm")
        for figure in ("images_per_second", "fetched_bytes", "epoch_requests")
    }
    stored = int(Beton(f"{work.folder}/train.beton").sizes.sum())
    assert 0.9 * stored < found["cold_fetched_bytes"] < 1.5 * stored
    assert found["warm_fetched_bytes"] < 0.1 * stored
    labels = call(_labels, name, Remote(work, url, str(Path(work.folder) / "cache")), settings)
    assert labels == Counter(Beton(f"{work.folder}/train.beton").labels.tolist())


def _here(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


class _WorkerHere:
    """`Worker` without a process."""

    def __init__(self) -> None:
        self._stack, self._kept = ExitStack(), None

    def __enter__(self) -> _WorkerHere:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def keep(self, make: Callable[..., Any], *arguments: Any, seconds: float) -> None:
        self._kept = self._stack.enter_context(make(*arguments))

    def call(self, function: Callable[..., Any], *arguments: Any, seconds: float) -> Any:
        return function(self._kept, *arguments)


def _labels(name: str, remote: Remote, settings: dict[str, object]) -> Counter[int]:
    """The labels of one epoch."""
    reader = load_reader(name)
    reader.check_installed()
    with reader.epochs(remote, settings) as epoch:
        return Counter(int(label) for _, labels in epoch() for label in labels)


@pytest.mark.slow
def test_rows_of_readers_that_cannot_take_part(work: Work, object_store: Proxy) -> None:
    """One that is not installed, and one whose dataset is missing."""
    conditions = Conditions("shapes", work, 0.0, 1, search=False)
    absent = {"litdata": CallFailed("no litdata", "not installed")}
    urls = {"slipform": object_store.new_folder()}
    rows = run_race(conditions, urls, absent, object_store, lambda text: None)
    assert [(row.case["loader"], row.case["cache"], row.status) for row in rows] == [
        ("slipform", "cold", "failed"),
        ("slipform", "warm", "failed"),
        ("litdata", "cold", "not installed"),
        ("litdata", "warm", "not installed"),
    ]
    assert "dataset.json does not exist" in rows[0].note


def test_the_command(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It starts the server, and writes a row for each latency and state of the cache."""
    monkeypatch.setenv("SLIPFORM_CACHE", "its reader sets this")
    monkeypatch.setattr("slipform.bench.race.worker.isolated", _here)
    monkeypatch.setattr("slipform.bench.race.remote.Worker", _WorkerHere)
    out = tmp_path / "remote.json"
    options = ["--images", "24", "--batch-size", "8", "--rounds", "2", "--readers", "none"]
    words = [str(shapes), *options, "--latency", "0,2", "--out", str(out)]
    done = CliRunner().invoke(suite.command, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    rows = read_result(out).rows
    assert [(row.case["latency"], row.case["cache"]) for row in rows] == [
        (wait, cache) for wait in ("0 ms", "2 ms") for cache in ("cold", "warm")
    ]
    for row in rows:
        assert row.status == "ok", row
        assert row.case["loader"] == "slipform"
        assert row.figures["images_per_second"].repeats == 2
        assert (row.figures["fetched_bytes"].median > 0) == (row.case["cache"] == "cold")
    (first, *_) = suite.LAYOUT.figures
    assert len(first.draw(rows)) == 4


def test_names_and_latencies() -> None:
    assert chosen_readers("all") == ["slipform", "litdata", "mosaic"]
    assert chosen_readers("none") == ["slipform"]
    assert chosen_readers("mosaic") == ["slipform", "mosaic"]
    with pytest.raises(ConfigError, match=r'no reader "litdat".* Did you mean "litdata"'):
        chosen_readers("litdat")
    assert np.allclose(suite.latencies("0,10,50"), [0, 0.01, 0.05])
    for text in ("", "fast", "-1", "1e9", "nan"):
        found = CliRunner().invoke(suite.command, ["data", "--latency", text])
        assert found.exit_code == 2, text
        assert "give milliseconds" in found.output
