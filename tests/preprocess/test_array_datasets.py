"""MNIST and CIFAR from small generated files, compared with torchvision's readers if it has one."""

from __future__ import annotations

import gzip
import pickle
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torchvision
from click.testing import CliRunner

from slipform.pipelines.beton import Beton
from slipform.pipelines.manifest import Manifest, read_manifest
from slipform.preprocess.cli import main
from slipform.preprocess.idx import read_idx


def prep(out: Path, *arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(main, [arguments[0], "--out", str(out), *arguments[1:]])
    assert result.exit_code == code, result.output
    assert code != 0 or read_manifest(out)
    return result.output


def idx(values: np.ndarray) -> bytes:
    return (
        bytes([0, 0, 8, values.ndim])
        + struct.pack(f">{values.ndim}I", *values.shape)
        + values.tobytes()
    )


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_mnist(tmp_path: Path, name: str, pack: Callable[[bytes], bytes]) -> None:
    generator = np.random.default_rng(0)
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    images = {
        part: generator.integers(0, 256, (num, 28, 28), np.uint8)
        for part, num in (("train", 50), ("t10k", 20))
    }
    for part, pixels in images.items():
        labels = np.arange(len(pixels), dtype=np.uint8) % 10
        for stem, values in (
            (f"{part}-images-idx3-ubyte", pixels),
            (f"{part}-labels-idx1-ubyte", labels),
        ):
            (raw / (stem + (".gz" if pack is gzip.compress else ""))).write_bytes(pack(idx(values)))
            if pack is bytes and values.ndim == 3:
                np.testing.assert_array_equal(
                    read_idx(raw / stem, 3),
                    torchvision.datasets.mnist.read_image_file(str(raw / stem)).numpy(),
                )
    prep(tmp_path / "out", name, "--source", str(tmp_path), "--val-fraction", "0.2")
    beton = Beton(tmp_path / "out/test.beton")
    np.testing.assert_array_equal(
        np.stack([beton.raw(i) for i in range(20)]), np.repeat(images["t10k"][..., None], 3, 3)
    )
    assert read_manifest(tmp_path / "out").splits["val"].counts == [1] * 10


def cifar10(folder: Path, binary: bool) -> tuple[np.ndarray, np.ndarray]:
    """Write the six files of a version, 20 images each. Returns pixels [120, 32, 32, 3] and
    labels."""
    generator = np.random.default_rng(0)
    rows, labels = generator.integers(0, 256, (120, 3072), np.uint8), generator.integers(0, 10, 120)
    folder.mkdir(parents=True)
    names = [f"name{i}" for i in range(10)]
    for number, name in enumerate(
        [
            "data_batch_1",
            "data_batch_2",
            "data_batch_3",
            "data_batch_4",
            "data_batch_5",
            "test_batch",
        ]
    ):
        part = slice(number * 20, number * 20 + 20)
        if binary:
            (folder / f"{name}.bin").write_bytes(
                np.hstack([labels[part, None].astype(np.uint8), rows[part]]).tobytes()
            )
        else:
            (folder / name).write_bytes(
                pickle.dumps({b"data": rows[part], b"labels": labels[part].tolist()}, protocol=2)
            )
    if binary:
        (folder / "batches.meta.txt").write_text("\n".join(names) + "\n\n")
    else:
        (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": names}, protocol=2))
    return rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.filterwarnings("ignore:numpy.core:DeprecationWarning")
def test_cifar10(tmp_path: Path, binary: bool) -> None:
    pixels, labels = cifar10(tmp_path / "raw" / "cifar-10-batches", binary)
    with tarfile.open(tmp_path / "cifar-10.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "raw/cifar-10-batches", "cifar-10-batches")
    prep(
        tmp_path / "out",
        "cifar10",
        "--source",
        str(tmp_path / "cifar-10.tar.gz"),
        "--val-fraction",
        "0",
    )
    manifest = read_manifest(tmp_path / "out")
    assert manifest.classes == [f"name{i}" for i in range(10)]
    assert set(manifest.splits) == {"train", "test"}
    for split, part in (("train", slice(0, 100)), ("test", slice(100, 120))):
        beton = Beton(tmp_path / "out" / f"{split}.beton")
        np.testing.assert_array_equal(beton.labels, labels[part])
        np.testing.assert_array_equal(
            np.stack([beton.raw(i) for i in range(len(beton))]), pixels[part]
        )


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("coarse", [False, True])
def test_cifar100(tmp_path: Path, binary: bool, coarse: bool) -> None:
    generator = np.random.default_rng(0)
    raw = tmp_path / "raw"
    raw.mkdir()
    expected = {}
    for name in ("train", "test"):
        rows, big, small = (
            generator.integers(0, 256, (30, 3072), np.uint8),
            generator.integers(0, 20, 30),
            generator.integers(0, 100, 30),
        )
        expected[name] = big if coarse else small
        if binary:
            (raw / f"{name}.bin").write_bytes(
                np.hstack([np.stack([big, small], 1).astype(np.uint8), rows]).tobytes()
            )
        else:
            batch = {b"data": rows, b"coarse_labels": big.tolist(), b"fine_labels": small.tolist()}
            (raw / name).write_bytes(pickle.dumps(batch, protocol=2))
    names = {"fine": [f"f{i}" for i in range(100)], "coarse": [f"c{i}" for i in range(20)]}
    for kind, listed in names.items():
        (raw / f"{kind}_label_names.txt").write_text("\n".join(listed))
    (raw / "meta").write_bytes(
        pickle.dumps({f"{kind}_label_names": listed for kind, listed in names.items()}, protocol=2)
    )
    prep(
        tmp_path / "out",
        "cifar100",
        "--source",
        str(raw),
        "--val-fraction",
        "0",
        *(["--coarse"] if coarse else []),
    )
    manifest: Manifest = read_manifest(tmp_path / "out")
    assert manifest.classes == names["coarse" if coarse else "fine"]
    for name, labels in expected.items():
        np.testing.assert_array_equal(Beton(tmp_path / "out" / f"{name}.beton").labels, labels)
