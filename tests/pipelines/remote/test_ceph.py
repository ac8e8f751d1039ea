"""The store and prep with Ceph's object gateway: an S3 server that checks signatures and parts.

It needs Debian's packages ceph-mon, ceph-osd and radosgw. A cluster of one monitor and one memory
store starts in a temporary folder.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from slipform.pipelines.errors import StorageError
from slipform.pipelines.manifest import read_manifest
from slipform.pipelines.remote.store import open_store
from slipform.preprocess.build import build_dataset
from slipform.preprocess.merge import merge
from slipform.preprocess.shard_record import Shard
from slipform.preprocess.shards import write_shard
from slipform.preprocess.verify import find_faults
from tests.preprocess.made import made

PROGRAMS = (
    "ceph",
    "ceph-authtool",
    "ceph-mon",
    "ceph-osd",
    "monmaptool",
    "radosgw",
    "radosgw-admin",
)
MISSING = [name for name in PROGRAMS if shutil.which(name) is None]
KEY, SECRET = "ceph-test-key", "ceph-test-secret"
_BUCKET = """
import sys
import boto3
url, key, secret = sys.argv[1:]
client = boto3.client("s3", endpoint_url=url, aws_access_key_id=key, aws_secret_access_key=secret)
client.create_bucket(Bucket="data-bucket")
"""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason="needs Debian's ceph-mon, ceph-osd, radosgw"),
]


def _ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a gateway with the bucket "data-bucket"."""
    folder = tmp_path_factory.mktemp("ceph")
    monitor, http = _ports(2)
    conf, fsid, osd = folder / "ceph.conf", uuid.UUID(int=1), uuid.UUID(int=2)
    conf.write_text(f"""
[global]
fsid = {fsid}
mon host = v1:127.0.0.1:{monitor}/0
ms bind msgr2 = false
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd crush chooseleaf type = 0
osd objectstore = memstore
memstore device bytes = 1073741824
mon allow pool size one = true
mon data avail crit = 1
mon data avail warn = 2
mon data = {folder}/mon
osd data = {folder}/osd
rgw data = {folder}/rgw
run dir = {folder}
admin socket = {folder}/$name.asok
log file = {folder}/$name.log
keyring = {folder}/keyring
rgw frontends = beast endpoint=127.0.0.1:{http}
""")

    def run(*words: str) -> str:
        done = subprocess.run(words, capture_output=True, text=True)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    given = ("-c", str(conf))
    keyring = str(folder / "keyring")
    caps = [word for name in ("mon", "osd", "mgr") for word in ("--cap", name, "allow *")]
    run("ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", "mon.", *caps)
    run("ceph-authtool", keyring, "--gen-key", "-n", "client.admin", *caps)
    address = f"[v1:127.0.0.1:{monitor}/0]"
    map_file = str(folder / "monmap")
    run("monmaptool", "--create", "--fsid", str(fsid), "--addv", "a", address, map_file)
    run("ceph-mon", *given, "--mkfs", "-i", "a", "--monmap", map_file, "--keyring", keyring)
    (folder / "osd").mkdir()
    (folder / "rgw").mkdir()
    running: list[subprocess.Popen[bytes]] = []
    with ExitStack() as stack:

        def start(*words: str) -> None:
            log = stack.enter_context(open(folder / f"{Path(words[0]).name}.out", "wb"))
            process = subprocess.Popen(words, stdout=log, stderr=log)
            running.append(process)
            stack.callback(process.wait)
            stack.callback(process.kill)

        start("ceph-mon", *given, "-f", "-i", "a")
        run("ceph", *given, "--connect-timeout", "120", "osd", "new", str(osd), "0")
        run("ceph-osd", *given, "--mkfs", "-i", "0", "--osd-uuid", str(osd))
        start("ceph-osd", *given, "-f", "-i", "0")
        user = ("user", "create", "--uid=test", "--display-name=test")
        run("radosgw-admin", *given, *user, f"--access-key={KEY}", f"--secret={SECRET}")
        start("radosgw", *given, "-f", "-n", "client.rgw.a")
        url = f"http://127.0.0.1:{http}"
        while True:
            try:
                urllib.request.urlopen(url).close()
                break
            except urllib.error.HTTPError:
                break
            except OSError:
                assert running[-1].poll() is None, "the gateway did not start"
                time.sleep(0.2)
        run(sys.executable, "-c", _BUCKET, url, KEY, SECRET)
        yield url


@pytest.fixture(autouse=True)
def credentials(gateway: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", gateway)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_REGION", "us-east-1")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    store, content = open_store("s3://data-bucket/files"), np.random.default_rng(0).bytes(30 << 20)
    (tmp_path / "large").write_bytes(content)
    store.put_file("large", tmp_path / "large")
    store.put("a/b", b"small")
    assert store.sizes() == {"a/b": 5, "large": len(content)}
    assert bytes(store.read_range("large", 9_000_000, 9_000_100)) == content[9_000_000:9_000_100]
    store.get_file("large", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == content
    assert store.create("a/c", b"first")
    assert not store.create("a/c", b"second")
    assert store.read("a/c") == b"first"
    store.delete(["a/b", "a/c", "none"])
    assert store.names() == ["large"]


def test_a_dataset_and_its_shards() -> None:
    whole = build_dataset(made(), "s3://data-bucket/whole")
    assert read_manifest("s3://data-bucket/whole") == whole
    for number in (1, 2, 3):
        write_shard(made(), "s3://data-bucket/shards", Shard(number, 3))
    merged = merge("s3://data-bucket/shards")
    assert merged.split("train").index_sha256 == whole.split("train").index_sha256
    assert list(find_faults("s3://data-bucket/shards", merged)) == []


def test_a_wrong_key_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
    with pytest.raises(StorageError, match="Check the credentials") as found:
        open_store("s3://data-bucket/files").read("large")
    assert "Tried 1 time" in found.value.message
    assert "wrong-secret" not in found.value.message
