"""Datasets in an object store, and the batches of loaders, for comparison.

In: a dataset folder. Out: its copy in a store; every batch of some epochs as arrays.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from slipform.pipelines.batch import Batch
from slipform.pipelines.loader import Loader
from slipform.pipelines.mirror.folder import local_folder
from slipform.pipelines.remote.store import open_store
from tests.object_server import Proxy
from tests.pipelines import folders
from tests.pipelines.epochs import open_loader

SAMPLES = re.compile(r"\.beton bytes=")  # requests for a part of a beton


def upload(folder: Path, url: str) -> str:
    """Copy all files of a folder. Returns the URL."""
    store = open_store(url)
    for path in sorted(folder.iterdir()):
        store.put(path.name, path.read_bytes())
    return url


def fetch_in_each_epoch(monkeypatch: pytest.MonkeyPatch, folder: Path, cache: Path) -> None:
    """Small requests, and a cache that has room for half of a dataset, which is a copy of `folder`:
    samples are fetched in each epoch."""
    monkeypatch.setattr("slipform.pipelines.mirror.ranges._MAX_GAP", 0)
    monkeypatch.setattr("slipform.pipelines.mirror.ranges._MAX_BYTES", 8_000)
    size = sum(path.stat().st_size for path in folder.glob("*.beton"))
    monkeypatch.setenv("SLIPFORM_CACHE", str(cache))
    monkeypatch.setenv("SLIPFORM_CACHE_SIZE", str(size // 2))


def photos(folder: Path, count: int = 120) -> Path:
    """A dataset of JPEGs of about 13 kB each: more than a block of a file system."""
    images = [folders.jpeg(folders.noise(80, 80 + k % 7, seed=k), 80) for k in range(count)]
    return folders.write_folder(folder, images)


Arrays = tuple[np.ndarray, ...]


def arrays(batch: Batch) -> Arrays:
    """Copies of indices, labels and pixels."""
    return tuple(one.numpy().copy() for one in (batch.indices, batch.labels, batch.images))


def batches(loader: Loader, epochs: int = 2) -> list[Arrays]:
    """All batches. The loader is closed."""
    with loader:
        return [arrays(batch) for _ in range(epochs) for batch in loader]


def assert_equal(got: list[Arrays], want: list[Arrays]) -> None:
    """The same batches, bit for bit."""
    assert len(got) == len(want) > 0
    for one, other in zip(got, want, strict=True):
        for a, b in zip(one, other, strict=True):
            assert np.array_equal(a, b)


def assert_same_batches(
    local: Path, url: str, executor: str = "host", epochs: int = 2, **options: object
) -> None:
    """Loaders of a local and of a remote folder give the same batches, bit for bit."""
    want = batches(open_loader(local, executor, **options), epochs)
    assert_equal(batches(open_loader(url, executor, **options), epochs), want)


def mirror_of(url: str) -> Path:
    """The mirror of a dataset, which exists."""
    return local_folder(url)


def fetched(store: Proxy) -> list[str]:
    """The requests for parts of betons."""
    return [one.text for one in store.requests if SAMPLES.search(one.text)]


def read_on(loader: Loader, got: list[Arrays], until: int = 1 << 30) -> None:
    """Append batches to `got`, epoch after epoch, until there are enough, or an error."""
    while len(got) < until:
        for batch in loader:
            got.append(arrays(batch))  # noqa: PERF401 (those before an error are kept)
