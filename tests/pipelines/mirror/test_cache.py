"""The cache: damaged files, limits, other datasets, several readers and processes."""

from __future__ import annotations

import gc
import hashlib
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from slipform.pipelines.beton_index import read_index
from slipform.pipelines.errors import ConfigError, StorageError
from slipform.pipelines.manifest import read_manifest
from slipform.pipelines.mirror.cache import cache_limit, cache_root, live_readers, used_bytes
from slipform.pipelines.mirror.folder import Mirror, local_folder, open_mirror, source_of
from slipform.pipelines.mirror.pins import Pins, pinned
from tests.object_server import Proxy, end_requests
from tests.pipelines.epochs import open_loader
from tests.pipelines.mirror import stored
from tests.pipelines.mirror.stored import (
    arrays,
    assert_equal,
    batches,
    fetched,
    mirror_of,
    read_on,
    upload,
)
from tests.warm import Warm

FILES = ("train.beton", "train.crc32.npy", "dataset.json", "source.json", "present")


def _change(path: Path, seed: int) -> None:
    """Change some bytes of a file, in place."""
    content = bytearray(path.read_bytes())
    for at in np.random.default_rng(seed).integers(0, len(content), 40):
        content[at] ^= 0xFF
    with open(path, "r+b") as file:
        file.write(content)


@pytest.mark.parametrize(
    ("name", "executor"),
    [
        *((name, "host") for name in FILES),
        ("train.beton", "resident"),
        *(pytest.param(name, "resident", marks=pytest.mark.slow) for name in FILES[1:]),
    ],
)
def test_a_file_that_was_damaged_between_runs(
    name: str, executor: str, url: str, photos: Path
) -> None:
    want = batches(open_loader(photos, executor))
    assert_equal(batches(open_loader(url, executor)), want)
    _change(mirror_of(url) / name, seed=1)
    assert_equal(batches(open_loader(url, executor)), want)


@pytest.mark.parametrize(
    "name",
    [pytest.param(x, marks=() if x in FILES[::2] else pytest.mark.slow) for x in FILES],
)
def test_a_file_that_was_truncated_or_deleted_between_runs(
    name: str, url: str, photos: Path
) -> None:
    want = batches(open_loader(photos, "host"))
    for _ in range(2):
        assert_equal(batches(open_loader(url, "host")), want)
        path = mirror_of(url) / name
        if name == "present":  # it is mapped by readers that live
            path.unlink()
        else:
            os.truncate(path, path.stat().st_size // 2)
        assert_equal(batches(open_loader(url, "host")), want)
        (mirror_of(url) / name).unlink()


def test_every_byte_of_the_index_is_compared(url: str, photos: Path) -> None:
    """A wrong size of an image would change its crops, and no checksum of a sample covers it."""
    batches(open_loader(url, "host"), 1)
    path, want = mirror_of(url) / "train.beton", batches(open_loader(photos, "host"), 1)
    content = path.read_bytes()
    index = read_index(path, np.frombuffer(content, np.uint8))
    for at in range(2106, int(index.offsets[0]), 397):
        with open(path, "r+b") as file:
            file.seek(at)
            file.write(bytes([content[at] ^ 1]))
        assert_equal(batches(open_loader(url, "host"), 1), want)


def test_another_dataset_behind_the_same_url(
    url: str, photos: Path, tmp_path: Path, cache: Path
) -> None:
    first = mirror_of(url)
    other = stored.photos(tmp_path / "other", 60)
    upload(other, url)
    assert mirror_of(url) != first
    assert_equal(batches(open_loader(url, "host")), batches(open_loader(other, "host")))
    upload(photos, url)
    assert mirror_of(url) == first


def test_the_mirror_knows_its_url(url: str, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = mirror_of(url)
    assert source_of(mirror) == url
    assert source_of(photos) == str(photos.resolve())
    assert local_folder(photos) == photos
    assert open_mirror(photos, read_manifest(photos)) is None
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(StorageError, match=r"the environment names"):
        open_mirror(mirror, read_manifest(mirror))


@pytest.mark.parametrize(
    ("text", "size"),
    [("50GB", 50 * 10**9), ("1.5 GiB", 3 << 29), ("7", 7), ("2k", 2000), ("10MiB", 10 << 20)],
)
def test_sizes(text: str, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPFORM_CACHE_SIZE", text)
    assert cache_limit(tmp_path) == size


def test_a_wrong_size_or_folder(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPFORM_CACHE_SIZE", "much")
    with pytest.raises(ConfigError, match=r"SLIPFORM_CACHE_SIZE=much: give a size such as 50GB"):
        local_folder(url)
    monkeypatch.delenv("SLIPFORM_CACHE_SIZE")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SLIPFORM_CACHE", str(tmp_path / "file"))
    with pytest.raises(StorageError, match=r"cannot be written.*SLIPFORM_CACHE"):
        local_folder(url)
    monkeypatch.delenv("SLIPFORM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_root() == tmp_path / "xdg" / "slipform" / "remote"


def test_the_cache_is_too_small(url: str, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPFORM_CACHE_SIZE", "3kB")
    with pytest.raises(StorageError, match=r"the tables of .*may take 3,000. Set SLIPFORM_CACHE_S"):
        open_loader(url, "host")
    monkeypatch.setenv("SLIPFORM_CACHE_SIZE", "60kB")
    with (
        open_loader(url, "host", batch_size=40) as loader,
        pytest.raises(StorageError, match=r"batches under way have .*may take 60,000.*smaller bat"),
    ):
        list(loader)


def test_a_file_system_without_holes(
    url: str, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slipform.pipelines.mirror.reader.can_punch", lambda folder: False)
    want = batches(open_loader(photos, "host"))
    assert_equal(batches(open_loader(url, "host")), want)  # the whole dataset fits
    monkeypatch.setenv("SLIPFORM_CACHE_SIZE", "300kB")
    with pytest.raises(StorageError, match=r"cannot free parts of a file.*ext4"):
        open_loader(url, "host")


def test_mirrors_that_nobody_uses_make_way(
    url: str, photos: Path, object_store: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The least recently used first. A mirror in use stays, and its space counts."""
    size = (photos / "train.beton").stat().st_size
    monkeypatch.setenv("SLIPFORM_CACHE_SIZE", str(int(2.5 * size)))
    urls = [url, *(upload(photos, object_store.new_folder()) for _ in range(2))]
    mirrors = []
    for one in urls[:2]:
        batches(open_loader(one, "host"), 1)
        mirrors.append(mirror_of(one))
        os.utime(mirrors[-1] / "source.json", (time.time() - 7200 + len(mirrors),) * 2)
    in_use = open_loader(urls[0], "host")
    end_requests()  # those under way when their loader was closed
    gc.collect()  # numba's first use of a kernel leaves errors, and these refer to the loader
    assert not any(live_readers(mirrors[1]))
    os.utime(mirrors[0] / "source.json", (time.time() - 9000,) * 2)
    batches(open_loader(urls[2], "host"), 1)
    assert mirrors[0].exists()
    assert not mirrors[1].exists()
    in_use.close()
    assert used_bytes(mirrors[0]) + used_bytes(mirror_of(urls[2])) <= 2.5 * size
    with open_loader(urls[0], "host"), open_loader(urls[2], "host"):
        monkeypatch.setenv("SLIPFORM_CACHE_SIZE", "100kB")
        with pytest.raises(StorageError, match=r"belong to datasets that are in use"):
            open_loader(urls[1], "host")


def test_pins_of_a_process_that_was_killed_are_void(
    url: str, warm_process: Warm, photos: Path
) -> None:
    mirror = open_mirror(mirror_of(url), read_manifest(photos))
    assert isinstance(mirror, Mirror)
    own = Pins(mirror)
    with mirror.locked():
        own.add(np.array([3, 4]))
    own.remove(np.array([4]))
    program = """
import os, sys
from pathlib import Path
import numpy as np
from slipform.pipelines.manifest import read_manifest
from slipform.pipelines.mirror.folder import open_mirror
from slipform.pipelines.mirror.pins import Pins
mirror = open_mirror(Path(sys.argv[1]), read_manifest(Path(sys.argv[1])))
pins = Pins(mirror)
with mirror.locked():
    pins.add(np.array([50]))
os.kill(os.getpid(), 9)
"""
    ended = warm_process.run(program, mirror.folder)
    assert ended.returncode == -9, ended.stderr
    assert len(list((mirror.folder / "readers").iterdir())) == 2
    with mirror.locked():
        assert np.flatnonzero(pinned(mirror)).tolist() == [3]
    assert len(list((mirror.folder / "readers").iterdir())) == 1
    del own
    assert not list((mirror.folder / "readers").iterdir())


PROGRAM = """
import hashlib, sys
from tests.pipelines.epochs import open_loader
digest = hashlib.sha256()
with open_loader(sys.argv[1], "host", batch_size=5, seed=int(sys.argv[2])) as loader:
    for _ in range(3):
        for batch in loader:
            digest.update(batch.indices.numpy().tobytes() + batch.images.numpy().tobytes())
print(digest.hexdigest())
"""


@pytest.mark.parametrize(
    ("seeds", "share"), [((5, 6), 0.4), pytest.param((5, 5), 2.0, marks=pytest.mark.slow)]
)
def test_processes_share_a_cache(
    seeds: tuple[int, ...],
    share: float,
    url: str,
    photos: Path,
    object_store: Proxy,
    warm_process: Warm,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the same order and with others, while each one evicts what others have used."""
    size = (photos / "train.beton").stat().st_size
    monkeypatch.setenv("SLIPFORM_CACHE_SIZE", str(int(share * size)))
    object_store.latency = 0.001
    warm = warm_process
    started = [warm.start(PROGRAM, url, seed) for seed in seeds]
    for seed, one in zip(seeds, started, strict=True):
        done = warm.wait(one)
        assert done.returncode == 0, done.stderr
        digest = hashlib.sha256()
        for indices, _, images in batches(open_loader(photos, "host", batch_size=5, seed=seed), 3):
            digest.update(indices.tobytes() + images.tobytes())
        assert done.stdout.split()[-1] == digest.hexdigest()
    assert fetched(object_store)
    assert not list((mirror_of(url) / "readers").iterdir())


def test_a_cache_that_is_deleted_during_a_run(url: str, photos: Path, cache: Path) -> None:
    want = batches(open_loader(photos, "host", batch_size=5), 1)
    with open_loader(url, "host", batch_size=5) as loader:
        got = [arrays(batch) for _, batch in zip(range(2), loader, strict=False)]
        shutil.rmtree(cache)
        with suppress(StorageError):
            read_on(loader, got, 24)
    assert_equal(got, want[: len(got)])
