"""prep --download, from a server on this machine: torchvision's real download code, with small
files in the official format."""

from __future__ import annotations

import gc
import gzip
import hashlib
import struct
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from click.testing import CliRunner, Result
from torchvision.datasets import MNIST

from slipform.pipelines.beton import Beton
from slipform.pipelines.manifest import read_manifest
from slipform.preprocess.cli import main

pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in.*socket:pytest.PytestUnraisableExceptionWarning"
)

IMAGES = np.random.default_rng(0).integers(0, 256, (30, 28, 28), np.uint8)
LABELS = np.arange(30, dtype=np.uint8) % 10


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a server on 127.0.0.1 that torchvision uses for MNIST."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    resources = []
    for part in ("train", "t10k"):
        for stem, values in (("images-idx3", IMAGES), ("labels-idx1", LABELS)):
            header = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
            packed = gzip.compress(header + values.tobytes())
            name = f"{part}-{stem}-ubyte.gz"
            (folder / name).write_bytes(packed)
            resources.append((name, hashlib.md5(packed).hexdigest()))
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setattr(MNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
        monkeypatch.setattr(MNIST, "resources", resources)
        yield folder
        server.shutdown()
    gc.collect()  # torchvision does not close the responses of failed requests


def prep_mnist(folder: Path) -> Result:
    arguments = [
        "mnist",
        "--download",
        str(folder / "raw"),
        "--out",
        str(folder / "out"),
        "--val-fraction",
        "0",
    ]
    return CliRunner().invoke(main, arguments)


def test_downloaded_files_are_prepared(mirror: Path, tmp_path: Path) -> None:
    result = prep_mnist(tmp_path)
    assert result.exit_code == 0, result.output
    beton = Beton(tmp_path / "out/test.beton")
    np.testing.assert_array_equal(np.stack([beton.raw(i)[..., 0] for i in range(30)]), IMAGES)
    np.testing.assert_array_equal(beton.labels, LABELS)


def test_existing_files_are_used_without_the_server(mirror: Path, tmp_path: Path) -> None:
    assert prep_mnist(tmp_path).exit_code == 0
    first = read_manifest(tmp_path / "out").splits["train"].sha256
    for path in mirror.iterdir():
        path.unlink()
    (tmp_path / "out").rename(tmp_path / "first")
    assert prep_mnist(tmp_path).exit_code == 0
    assert read_manifest(tmp_path / "out").splits["train"].sha256 == first


@pytest.mark.parametrize("damage", ["altered", "missing"])
def test_wrong_and_missing_files(mirror: Path, tmp_path: Path, damage: str) -> None:
    path = mirror / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-20] + bytes(20)) if damage == "altered" else path.unlink()
    result = prep_mnist(tmp_path)
    assert result.exit_code == 1
    assert "the download failed" in result.output
    assert "t10k-images-idx3-ubyte" in result.output
    assert f"Then use --source {tmp_path / 'raw'}" in result.output
    assert not (tmp_path / "out").exists()
