"""Several preps write to one folder of an object store at the same time: one dataset, or none.

A prep is called in the middle of another one, so that their requests have a certain order.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from contextlib import suppress
from itertools import product
from pathlib import Path

import pytest

from slipform.pipelines.errors import DatasetError
from slipform.pipelines.manifest import FILE_NAME
from slipform.pipelines.remote.store import Store, open_store
from slipform.preprocess import shards
from slipform.preprocess.build import build_dataset
from slipform.preprocess.claim import CLAIM
from slipform.preprocess.merge import merge
from slipform.preprocess.places import place_of
from slipform.preprocess.shard_record import Shard
from slipform.preprocess.source import SampleSource
from tests.object_server import Proxy
from tests.preprocess.made import COUNT, made, write_all

# dataset.json, report.txt, and for train and val: beton, checksums, names.
FILES = 8
# Before and after the upload of a file. The first one, one between, and the last one by default.
QUICK = [(0, False), (3, True), (FILES - 1, False)]
MOMENTS = [
    pytest.param(*moment, marks=() if moment in QUICK else pytest.mark.slow)
    for moment in product(range(FILES), (False, True))
]


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))


def first_one() -> SampleSource:
    return made()


def other() -> SampleSource:
    """A dataset whose files have the same sizes, and other labels."""
    return made(label=1)


def expected(source: SampleSource, folder: Path) -> dict[str, bytes]:
    build_dataset(source, folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def contents(url: str) -> dict[str, bytes]:
    store = open_store(url)
    return {name: store.read(name) for name in store.names()}


def once(call: Callable[[], object]) -> Callable[[int], None]:
    """A progress function: the first call of it calls."""
    left = [call]

    def progress(num_samples: int) -> None:
        while left:
            left.pop()()

    return progress


def during_upload(
    monkeypatch: pytest.MonkeyPatch, number: int, after: bool, call: Callable[[], object]
) -> None:
    """Call before or after the next upload of the object of a number, counted from 0."""
    real, count = Store.put_file, 0

    def put_file(*arguments: object, **options: object) -> None:
        nonlocal count
        count += 1
        mine = count - 1 == number
        if mine and not after:
            call()
        real(*arguments, **options)
        if mine and after:
            call()

    monkeypatch.setattr(Store, "put_file", put_file)


def test_both_begin_and_the_slower_one_is_refused(object_store: Proxy, tmp_path: Path) -> None:
    url = object_store.new_folder()
    with pytest.raises(DatasetError, match=f"{url}: another prep has written to it"):
        build_dataset(other(), url, progress=once(lambda: build_dataset(first_one(), url)))
    assert contents(url) == expected(first_one(), tmp_path / "local")


@pytest.mark.parametrize(("number", "after"), MOMENTS)
def test_a_prep_that_comes_during_an_upload_is_refused(
    object_store: Proxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    after: bool,
) -> None:
    """It may have begun before the upload, or after. The one that uploads comes to its end."""
    url, refused = object_store.new_folder(), []

    def late() -> None:
        for place in (url, place_of(url)):
            with pytest.raises(DatasetError, match=f"another prep is uploading to {url}") as found:
                build_dataset(other(), place)
            refused.append(found.value.message)
        with pytest.raises(DatasetError, match="a dataset without shards"):
            shards.write_shard(other(), url, Shard(1, COUNT))

    during_upload(monkeypatch, number, after, late)
    build_dataset(first_one(), url)
    assert len(refused) == 2
    assert " process " in refused[0]
    assert contents(url) == expected(first_one(), tmp_path / "local")


@pytest.mark.parametrize(
    "number", [pytest.param(n, marks=() if n == 3 else pytest.mark.slow) for n in (0, 3, FILES - 1)]
)
def test_one_that_has_begun_before_an_upload_is_refused(
    object_store: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Both found an empty folder. The second one is at its upload when the first one uploads."""
    url = object_store.new_folder()
    with place_of(url).replacing() as folder:
        build_dataset(first_one(), tmp_path / "local")
        for path in (tmp_path / "local").iterdir():
            path.rename(folder / path.name)
        slower = place_of(url).replacing()
        other_folder = slower.__enter__()
        build_dataset(other(), tmp_path / "other")
        for path in (tmp_path / "other").iterdir():
            path.rename(other_folder / path.name)

        def upload_the_other() -> None:
            with pytest.raises(DatasetError, match=f"{url}: another prep is uploading to it"):
                slower.__exit__(None, None, None)

        during_upload(monkeypatch, number, False, upload_the_other)
    assert contents(url) == expected(first_one(), tmp_path / "again")


@pytest.mark.parametrize(("number", "after"), MOMENTS)
def test_one_with_overwrite_ends_another_one(
    object_store: Proxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    after: bool,
) -> None:
    """No object of the one that was ended stays, wherever it was. The other one may miss one."""
    url = object_store.new_folder()
    during_upload(
        monkeypatch,
        number,
        after,
        lambda: build_dataset(other(), place_of(url, overwrite=True)),
    )
    with pytest.raises(DatasetError, match=f"{url}: another prep with --overwrite has begun"):
        build_dataset(first_one(), url)
    found, whole = contents(url), expected(other(), tmp_path / "local")
    assert found.items() <= whole.items()
    assert len(found) == FILES - 1  # without the one that the first one has taken back


def test_two_with_overwrite(object_store: Proxy, tmp_path: Path) -> None:
    """Both found what an interrupted upload has left."""
    url = object_store.new_folder()
    with suppress(KeyboardInterrupt), pytest.MonkeyPatch.context() as patch:

        def stop() -> None:
            raise KeyboardInterrupt

        during_upload(patch, 4, False, stop)
        build_dataset(made(label=2), url)
    assert CLAIM in open_store(url).names()

    def overwrite(source: SampleSource, inside: Callable[[], object] = lambda: None) -> None:
        build_dataset(source, place_of(url, overwrite=True), progress=once(inside))

    with pytest.raises(DatasetError, match=f"{url}: another prep has written to it"):
        overwrite(other(), lambda: overwrite(first_one()))
    assert contents(url) == expected(first_one(), tmp_path / "local")


def test_workers_of_two_datasets(object_store: Proxy, tmp_path: Path) -> None:
    """No record is there when both begin. The slower one is refused before it sends anything."""
    url = object_store.new_folder()
    with pytest.raises(DatasetError, match=r"has shards of another dataset.*other lists of images"):
        shards.write_shard(
            other(),
            url,
            Shard(2, COUNT),
            progress=once(lambda: shards.write_shard(first_one(), url, Shard(2, COUNT))),
        )
    shards.write_shard(first_one(), tmp_path, Shard(2, COUNT))
    found = contents(url)
    del found[CLAIM]
    assert found == {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}


def test_workers_of_one_dataset_share_a_claim(object_store: Proxy, tmp_path: Path) -> None:
    """Also two of the same shard."""
    url = object_store.new_folder()
    shards.write_shard(
        made(),
        url,
        Shard(2, COUNT),
        progress=once(lambda: shards.write_shard(made(), url, Shard(2, COUNT))),
    )
    assert write_all_but(url, 2) == write_all(made(), tmp_path / "local")


def write_all_but(url: str, written: int) -> object:
    for number in range(1, COUNT + 1):
        assert shards.write_shard(made(), url, Shard(number, COUNT))[1] == (number != written)
    return merge(url)


def test_shards_and_a_dataset_without(object_store: Proxy) -> None:
    """The prep that comes to its upload later is refused."""
    url = object_store.new_folder()
    with pytest.raises(DatasetError, match=f"{url}: another prep is uploading to it"):
        build_dataset(
            made(), url, progress=once(lambda: shards.write_shard(made(), url, Shard(1, COUNT)))
        )
    assert FILE_NAME not in open_store(url).names()
    assert not shards.write_shard(made(), url, Shard(1, COUNT))[1]


@pytest.mark.parametrize(
    "claim",
    [
        b"{",
        json.dumps({"host": 1}).encode(),
        *(pytest.param(x, marks=pytest.mark.slow) for x in (b"", b"[1]")),
    ],
)
def test_a_damaged_claim_is_an_error(object_store: Proxy, claim: bytes) -> None:
    url = object_store.new_folder()
    open_store(url).put(CLAIM, claim)
    with pytest.raises(DatasetError, match=r"or an interrupted upload\. Add --overwrite"):
        build_dataset(made(), url)
    with pytest.raises(DatasetError, match=f"{url}/{CLAIM} is damaged. Delete it"):
        shards.write_shard(made(), url, Shard(1, COUNT))
    build_dataset(made(), place_of(url, overwrite=True))
    assert CLAIM not in open_store(url).names()
