"""The real Caltech-101, CIFAR-10 and MNIST, if present, compared with torchvision's datasets."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import torchvision
from click.testing import CliRunner

from slipform.pipelines.beton import Beton
from slipform.pipelines.beton_format import JPG
from slipform.pipelines.manifest import read_manifest
from slipform.preprocess.cli import main
from slipform.preprocess.verify import find_faults


def prep(out: Path, *arguments: str) -> None:
    result = CliRunner().invoke(main, [*arguments, "--out", str(out)])
    assert result.exit_code == 0, result.output


def test_caltech101(shared_data: Path, tmp_path: Path) -> None:
    prep(tmp_path / "out", "caltech101", "--source", str(shared_data / "caltech101"))
    manifest = read_manifest(tmp_path / "out")
    reference = torchvision.datasets.Caltech101(shared_data)
    assert manifest.classes == reference.categories
    assert manifest.num_classes == 101
    assert manifest.splits["train"].num_samples + manifest.splits["val"].num_samples == 5784
    assert manifest.splits["test"].num_samples == 2893
    assert all(
        abs(t - v) <= 1
        for t, v in zip(manifest.splits["train"].counts, manifest.splits["val"].counts, strict=True)
    )
    assert manifest.converted == {}
    assert (
        np.sum([info.counts for info in manifest.splits.values()], axis=0).tolist()
        == np.bincount(reference.y).tolist()
    )
    # Every file of torchvision's dataset is stored once, byte for byte, under the same label.
    root = shared_data / "caltech101/101_ObjectCategories"
    files = [
        ((root / reference.categories[y] / f"image_{number:04d}.jpg").read_bytes(), y)
        for number, y in zip(reference.index, reference.y, strict=True)
    ]
    kept = []
    for info in manifest.splits.values():
        beton = Beton(tmp_path / "out" / info.file)
        assert (beton.modes == JPG).all()
        kept += [(beton.bytes_of(i).tobytes(), int(beton.labels[i])) for i in range(len(beton))]
    assert sorted(kept) == sorted(files)
    assert list(find_faults(tmp_path / "out", manifest)) == []


def test_caltech101_halved_as_report_c_did(shared_data: Path, tmp_path: Path) -> None:
    prep(
        tmp_path / "out",
        "caltech101",
        "--source",
        str(shared_data / "caltech101"),
        "--val-split",
        "odd_indices",
        "--no-check",
    )
    sizes = {
        name: info.num_samples for name, info in read_manifest(tmp_path / "out").splits.items()
    }
    assert sizes == {"train": 2892, "val": 2892, "test": 2893}


def test_cifar10(shared_data: Path, tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, str(shared_data / "cifar10/restore.py"), str(tmp_path)],
        check=True,
        capture_output=True,
    )
    prep(tmp_path / "out", "cifar10", "--source", str(tmp_path), "--val-fraction", "0")
    manifest = read_manifest(tmp_path / "out")
    for split in ("train", "test"):
        reference = torchvision.datasets.CIFAR10(tmp_path, train=split == "train")
        beton = Beton(tmp_path / "out" / f"{split}.beton")
        assert manifest.classes == reference.classes
        assert beton.labels.tolist() == reference.targets
        assert all(np.array_equal(beton.raw(i), reference.data[i]) for i in range(len(beton)))
    # The usual numbers for CIFAR-10.
    np.testing.assert_allclose(manifest.mean, [0.4914, 0.4822, 0.4465], atol=5e-5)
    np.testing.assert_allclose(manifest.std, [0.2470, 0.2435, 0.2616], atol=5e-5)


def test_mnist(shared_data: Path, tmp_path: Path) -> None:
    prep(tmp_path / "out", "mnist", "--source", str(shared_data / "mnist"), "--val-fraction", "0")
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for path in (shared_data / "mnist").glob("*.gz"):
        (raw / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    manifest = read_manifest(tmp_path / "out")
    for split in ("train", "test"):
        reference = torchvision.datasets.MNIST(tmp_path, train=split == "train")
        beton = Beton(tmp_path / "out" / f"{split}.beton")
        assert beton.labels.tolist() == reference.targets.tolist()
        pixels = reference.data.numpy()
        assert all((beton.raw(i) == pixels[i][..., None]).all() for i in range(len(beton)))
    np.testing.assert_allclose([manifest.mean[0], manifest.std[0]], [0.1307, 0.3081], atol=5e-5)
