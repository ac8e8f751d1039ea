"""A dataset in an object store gives the batches of the local one, bit for bit."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slipform.pipelines.beton import Beton
from slipform.pipelines.dataset import open_dataset
from slipform.pipelines.errors import SampleError, StorageError
from slipform.pipelines.manifest import read_manifest
from slipform.pipelines.mirror import ranges
from slipform.pipelines.mirror.cache import used_bytes
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.sample_names import read_names
from slipform.pipelines.samples import open_samples
from slipform.preprocess.build import build_dataset
from slipform.preprocess.source import Generated, SampleSource
from tests.object_server import Proxy
from tests.pipelines import folders
from tests.pipelines.epochs import ON_CPU, open_loader
from tests.pipelines.mirror.older import without_checksums
from tests.pipelines.mirror.stored import (
    arrays,
    assert_equal,
    assert_same_batches,
    batches,
    fetched,
    mirror_of,
    upload,
)
from tests.pipelines.mirror.web_server import web_server
from tests.pipelines.sharded import write_shards


@pytest.mark.parametrize("executor", ON_CPU)
@pytest.mark.parametrize("encoding", ["shapes", "shapes_raw"])
def test_two_epochs_are_equal(
    executor: str, encoding: str, object_store: Proxy, request: pytest.FixtureRequest
) -> None:
    local = request.getfixturevalue(encoding)
    assert_same_batches(local, upload(local, object_store.new_folder()), executor)


def test_large_jpegs_are_equal(object_store: Proxy, tmp_path: Path) -> None:
    """Their entry points are read from a local folder alone."""
    image = folders.noise(1000, 1200)
    files = [folders.jpeg(np.roll(image, 70 * k, axis=1), 70) for k in range(6)]
    samples = Generated(files.__getitem__, np.arange(6) % 2, "made")
    local = tmp_path / "large"
    build_dataset(SampleSource("made", ["a", "b"], {"train": samples}, ""), local)
    assert Beton(local / "train.beton").bytes_after(0)[:8].tobytes() == b"SFENTRY1"  # type: ignore[index]
    augment = Augmentation(image_size=64, crop="random_resized")
    assert_same_batches(
        local, upload(local, object_store.new_folder()), augment=augment, batch_size=3
    )


@pytest.mark.parametrize(
    "options",
    [
        {"fold": "2/3"},
        {"fold": "2/3", "split": "val", "training": False},
        {"sampling": "balanced"},
        {"block": 16},
        {"split": "val", "training": False, "batch_size": 7},
        {"world_size": 2, "rank": 1},
        {"reuse_buffers": True},
    ],
    ids=str,
)
def test_options_are_equal(options: dict[str, Any], shapes: Path, object_store: Proxy) -> None:
    assert_same_batches(shapes, upload(shapes, object_store.new_folder()), **options)


def test_a_web_server_is_enough(shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with web_server(shapes) as url:
        assert_same_batches(shapes, f"{url}/data/shapes", "host")


@pytest.mark.parametrize("executor", ["host", pytest.param("resident", marks=pytest.mark.slow)])
def test_shards_are_equal(executor: str, shapes: Path, object_store: Proxy, tmp_path: Path) -> None:
    shards = write_shards(shapes, tmp_path / "shards", [100, 170])
    url = upload(shards, object_store.new_folder())
    assert_same_batches(shapes, url, executor)
    assert_same_batches(shapes, url, executor, fold="1/3")


def test_a_position_continues_in_the_middle_of_an_epoch(url: str, photos: Path) -> None:
    want = batches(open_loader(photos, "host"))
    with open_loader(url, "host") as loader:
        for _, _ in zip(range(3), loader, strict=False):
            pass
        state = loader.state_dict()
        loader.set_epoch(0)  # drops what is under way
        again = [batch.images.numpy().copy() for _, batch in zip(range(2), loader, strict=False)]
    assert np.array_equal(again[1], want[1][2])
    resumed = open_loader(url, "host")
    resumed.load_state_dict(state)
    assert_equal(batches(resumed), want[3:])


@pytest.mark.parametrize(
    ("executor", "block"),
    [
        *(pytest.param(x, 0, marks=() if x == "host" else pytest.mark.slow) for x in ON_CPU),
        ("host", 16),
    ],
)
def test_a_small_cache_gives_the_same_batches_and_stays_small(
    executor: str,
    block: int,
    url: str,
    photos: Path,
    object_store: Proxy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A third of the dataset. With samples of several blocks of the file system the limit is kept
    at each step."""
    size, epochs = read_manifest(photos).split("train").bytes, 3
    limit, mirror = size // 3, mirror_of(url)
    monkeypatch.setenv("SLIPFORM_CACHE_SIZE", str(limit))
    options: dict[str, Any] = {"batch_size": 5, "block": block}
    want = batches(open_loader(photos, executor, **options), epochs)
    got = []
    with open_loader(url, executor, **options) as loader:
        for _ in range(epochs):
            for batch in loader:
                got.append(arrays(batch))
                assert used_bytes(mirror) <= limit
    assert_equal(got, want)
    if executor != "resident":
        assert object_store.num_bytes > 1.5 * size  # some were fetched again


def test_what_is_cached_is_not_requested_again(url: str, photos: Path, object_store: Proxy) -> None:
    want = batches(open_loader(photos, "host"))
    for _ in range(2):
        assert_equal(batches(open_loader(url, "host")), want)
        count = len(fetched(object_store))
        object_store.reset()
    assert count == 0
    names = {one.path.rpartition("/")[2] for one in object_store.requests}
    assert names <= {"dataset.json"}


def test_neighbors_are_fetched_by_one_request(url: str, object_store: Proxy) -> None:
    batches(open_loader(url, "host"))
    # The tables: two ranges, each of them twice. Then 1.5 MB.
    assert len(fetched(object_store)) <= 4 + 3


def test_each_rank_fetches_only_its_samples(
    url: str, photos: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.setattr(ranges, "_MAX_GAP", 0)
    # Nothing is fetched twice.
    monkeypatch.setattr("slipform.pipelines.read_ahead.requests_at_once", lambda pieces: 1)
    for rank in range(2):
        shutil.rmtree(cache, ignore_errors=True)
        options: dict[str, Any] = {"rank": rank, "world_size": 2, "batch_size": 20}
        with open_loader(url, "host", **options) as loader:
            list(loader)
            num_bytes = loader.stats()["fetched_bytes"]
        with open_loader(photos, "host", **options) as local:
            epochs = [np.concatenate([b.indices.numpy() for b in local]) for _ in range(2)]
            sizes = local.samples.beton.sizes
        # The next epoch is begun, too.
        both = np.unique(np.concatenate(epochs))
        assert sizes[epochs[0]].sum() <= num_bytes <= sizes[both].sum() < sizes.sum()


def test_a_sample_that_is_damaged_in_the_store(
    object_store: Proxy, photos: Path, tmp_path: Path
) -> None:
    """As in a local file: an error with its number, or it is left out."""
    damaged = tmp_path / "damaged"
    shutil.copytree(photos, damaged)
    beton = open_dataset(photos).beton("train")
    content = bytearray((damaged / "train.beton").read_bytes())
    content[int(beton.offsets[7]) + 100] ^= 0xFF
    (damaged / "train.beton").write_bytes(content)
    url = upload(damaged, object_store.new_folder())
    assert_same_batches(damaged, url, "host", on_bad="skip")
    assert_same_batches(damaged, url, "resident", on_bad="skip")
    with pytest.raises(SampleError, match=r"sample 7 of s3://.*train.beton is damaged"):
        batches(open_loader(url, "host"))
    with pytest.raises(SampleError, match=r"sample 7 of"):
        open_dataset(url).image("train", 7)


def test_single_images_labels_and_names(object_store: Proxy, shapes: Path) -> None:
    url = upload(shapes, object_store.new_folder())
    local, remote = open_dataset(shapes), open_dataset(url)
    for index in (0, 5, 59):
        assert np.array_equal(remote.image("test", index), local.image("test", index))
        assert remote.label("test", index) == local.label("test", index)
        found = remote.beton("test").bytes_of(index)
        assert np.array_equal(found, local.beton("test").bytes_of(index))
    samples = open_samples(mirror_of(url), remote.manifest, "val")
    assert samples.names() == read_names(shapes, local.manifest.split("val"))
    assert read_manifest(url) == local.manifest


def test_betons_without_checksums_are_checked_as_a_whole(
    object_store: Proxy, shapes_raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those of older versions."""
    older = without_checksums(shapes_raw, tmp_path / "older")
    url = upload(older, object_store.new_folder())
    assert_same_batches(older, url, "host")
    count = len(fetched(object_store))
    (mirror_of(url) / "present").unlink()
    assert_same_batches(older, url, "host")
    assert len(fetched(object_store)) == count
    path = mirror_of(url) / "train.beton"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    with open(path, "r+b") as file:
        file.write(content)
    assert_same_batches(older, url, "host")
    assert len(fetched(object_store)) > count
    monkeypatch.setenv("SLIPFORM_CACHE_SIZE", "100kB")
    with pytest.raises(StorageError, match=r"samples without checksums.*SLIPFORM_CACHE_SIZE"):
        open_loader(url, "host")
