"""Every dataset from small generated files. The readers are compared with torchvision's if it reads
the same files."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torchvision
from click.testing import CliRunner
from PIL import Image

from slipform.pipelines.beton import Beton
from slipform.pipelines.errors import DatasetError
from slipform.pipelines.manifest import read_manifest
from slipform.preprocess.cli import main
from slipform.preprocess.registry import discover
from slipform.preprocess.source import Arrays
from slipform.preprocess.splits import divide, per_class


def prep(out: Path, *arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(main, [arguments[0], "--out", str(out), *arguments[1:]])
    assert result.exit_code == code, result.output
    assert code != 0 or read_manifest(out)
    return result.output


def images_in(folder: Path, names: list[str], start: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names, start):
        Image.fromarray(np.full((12 + number, 17, 3), (number * 13) % 256, np.uint8)).save(
            folder / name
        )


def stored(out: Path, split: str) -> list[tuple[bytes, int]]:
    beton = Beton(out / f"{split}.beton")
    return [(beton.bytes_of(i).tobytes(), int(beton.labels[i])) for i in range(len(beton))]


@pytest.fixture
def caltech(tmp_path: Path) -> Path:
    root = tmp_path / "raw" / "101_ObjectCategories"
    for name, number in {"accordion": 8, "Faces": 9, "ant": 8, "BACKGROUND_Google": 4}.items():
        images_in(root / name, [f"image_{i:04d}.jpg" for i in range(1, number + 1)])
    (root / "BACKGROUND_Google" / "tmp").write_text("no image")
    lines = [
        f"{name}/image_{i:04d}.jpg"
        for name in ("accordion", "ant", "BACKGROUND_Google")
        for i in range(1, 5)
    ]
    (tmp_path / "raw/train.txt").write_text("\n".join([*lines, "BACKGROUND_Google/tmp"]) + "\n")
    (tmp_path / "raw/test.txt").write_text("accordion/image_0007.jpg\nFaces/image_0009.jpg\n")
    return tmp_path / "raw"


def test_caltech101_follows_its_lists(caltech: Path, tmp_path: Path) -> None:
    prep(tmp_path / "out", "caltech101", "--source", str(caltech), "--val-split", "odd_indices")
    manifest = read_manifest(tmp_path / "out")
    assert manifest.classes == ["Faces", "accordion", "ant"]
    listed = [
        line for line in (caltech / "train.txt").read_text().split() if "BACKGROUND" not in line
    ]
    root = caltech / "101_ObjectCategories"
    expected = [
        ((root / line).read_bytes(), manifest.classes.index(line.split("/")[0])) for line in listed
    ]
    assert stored(tmp_path / "out", "train") == expected[::2]
    assert stored(tmp_path / "out", "val") == expected[1::2]
    assert [label for _, label in stored(tmp_path / "out", "test")] == [1, 0]


@pytest.mark.parametrize("rule", ["stratified", "fraction"])
def test_caltech101_at_random(caltech: Path, tmp_path: Path, rule: str) -> None:
    options = [
        "--split",
        "random",
        "--per-class",
        "6",
        "--val-split",
        rule,
        "--val-fraction",
        "0.5",
    ]
    for seed in ("0", "1"):
        prep(tmp_path / seed, "caltech101", "--source", str(caltech), *options, "--seed", seed)
    manifest = read_manifest(tmp_path / "0")
    assert manifest.splits["test"].counts == [3, 2, 2]
    assert manifest.splits["train"].num_samples == manifest.splits["val"].num_samples == 9
    if rule == "stratified":
        assert manifest.splits["val"].counts == [3, 3, 3]
    content = {
        seed: [
            sample
            for split in ("train", "val", "test")
            for sample in stored(tmp_path / seed, split)
        ]
        for seed in "01"
    }
    assert sorted(content["0"]) == sorted(content["1"])  # every image once, with any seed
    assert content["0"] != content["1"]


def test_caltech101_reports_every_listed_image_that_is_missing(
    caltech: Path, tmp_path: Path
) -> None:
    with open(caltech / "train.txt", "a") as file:
        file.write("ant/image_0099.jpg\n../../secret.jpg\n")
    output = prep(tmp_path / "out", "caltech101", "--source", str(caltech), code=1)
    assert "ant/image_0099.jpg" in output
    assert "../../secret.jpg" in output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["tar.gz", "zip", "tar in zip"])
def test_caltech101_from_archives(caltech: Path, tmp_path: Path, kind: str) -> None:
    folder = caltech / "101_ObjectCategories"
    archive = tmp_path / "101_ObjectCategories.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, "101_ObjectCategories")
    if kind != "tar.gz":
        inner, archive = archive, tmp_path / "caltech-101.zip"
        with zipfile.ZipFile(archive, "w") as zipped:
            if kind == "tar in zip":
                zipped.write(inner, "caltech-101/101_ObjectCategories.tar.gz")
            else:
                for path in folder.rglob("*.jpg"):
                    zipped.write(path, path.relative_to(caltech))
    options = ["--split", "random", "--per-class", "6"]
    prep(tmp_path / "a", "caltech101", "--source", str(caltech), *options)
    prep(tmp_path / "b", "caltech101", "--source", str(archive), *options)
    for name in ("train.beton", "val.beton", "test.beton", "dataset.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_caltech256_leaves_clutter_out(tmp_path: Path) -> None:
    for name in ("001.ak47", "002.american-flag", "257.clutter"):
        images_in(tmp_path / "raw/256_ObjectCategories" / name, [f"{i}.jpg" for i in range(12)])
    images_in(
        tmp_path / "raw/256_ObjectCategories/001.ak47/greg", ["a.jpg"]
    )  # the official tar has such an extra folder
    prep(
        tmp_path / "out",
        "caltech256",
        "--source",
        str(tmp_path / "raw"),
        "--per-class",
        "10",
        "--val-fraction",
        "0.2",
    )
    manifest = read_manifest(tmp_path / "out")
    assert manifest.classes == ["001.ak47", "002.american-flag"]
    assert {name: info.counts for name, info in manifest.splits.items()} == {
        "train": [8, 8],
        "val": [2, 2],
        "test": [2, 2],
    }


def test_images_agree_with_torchvisions_image_folder(tmp_path: Path) -> None:
    for split, start in (("train", 0), ("test", 40)):
        for number, name in enumerate(("zebra", "apple", "Äpfel")):
            images_in(
                tmp_path / "raw" / split / name,
                [f"{i}.{kind}" for i, kind in enumerate(("jpg", "png", "bmp", "webp"))],
                start + number,
            )
    prep(
        tmp_path / "out",
        "images",
        "--source",
        str(tmp_path / "raw"),
        "--val-fraction",
        "0",
        "--encoding",
        "raw",
    )
    manifest = read_manifest(tmp_path / "out")
    for split in ("train", "test"):
        reference = torchvision.datasets.ImageFolder(tmp_path / "raw" / split)
        assert manifest.classes == reference.classes
        beton = Beton(tmp_path / "out" / f"{split}.beton")
        assert beton.labels.tolist() == reference.targets
        for index, (image, _) in enumerate(reference):
            np.testing.assert_array_equal(beton.raw(index), np.asarray(image))


def test_images_without_split_folders_are_split_by_class(tmp_path: Path) -> None:
    for name in ("b", "a"):
        images_in(tmp_path / "raw/photos" / name, [f"{i}.jpg" for i in range(20)])
    prep(
        tmp_path / "out",
        "images",
        "--source",
        str(tmp_path / "raw"),
        "--test-fraction",
        "0.2",
        "--val-fraction",
        "0.25",
    )
    manifest = read_manifest(tmp_path / "out")
    assert manifest.classes == ["a", "b"]
    assert {name: info.counts for name, info in manifest.splits.items()} == {
        "train": [12, 12],
        "val": [4, 4],
        "test": [4, 4],
    }


def test_divide_and_per_class() -> None:
    labels = np.repeat(np.arange(5), [10, 11, 1, 40, 3])
    for rule, expected in {
        "stratified": 5 + 6 + 0 + 20 + 2,
        "odd_indices": 32,
        "fraction": 32,
    }.items():
        samples = Arrays(np.zeros((65, 4, 4), np.uint8), labels, "made")
        staying, taken = divide(samples, rule, 0.5, 3)
        assert sorted([*staying, *taken]) == list(range(65))
        assert len(taken) == expected, rule
    chosen, rest = per_class(labels, 10, 0)
    assert np.bincount(labels[chosen]).tolist() == [10, 10, 1, 10, 3]
    assert sorted([*chosen, *rest]) == list(range(65))


@pytest.mark.parametrize(
    "name", [name for name, dataset in discover().items() if dataset.takes_source]
)
def test_every_dataset_names_its_files(tmp_path: Path, name: str) -> None:
    """This applies to every file in preprocess/datasets."""
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "does not exist" in prep(
        tmp_path / "out", name, "--source", str(tmp_path / "none"), code=1
    )
    assert str(empty) in prep(tmp_path / "out", name, "--source", str(empty), code=1)
    assert "--source" in prep(tmp_path / "out", name, code=2)
    (tmp_path / "text.txt").write_text("hello")
    assert "archive" in prep(tmp_path / "out", name, "--source", str(tmp_path / "text.txt"), code=1)
    assert not (tmp_path / "out").exists()
    with pytest.raises(DatasetError):
        discover()[name].read(
            empty, **{option.name: option.default for option in discover()[name].options}
        )


def test_the_message_of_a_failed_download_names_the_files_and_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from urllib.error import URLError

    def unreachable(*arguments: object, **options: object) -> io.BytesIO:
        raise URLError("no network")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    output = prep(tmp_path / "out", "cifar10", "--download", str(tmp_path / "raw"), code=1)
    assert "cifar-10-python.tar.gz" in output
    assert str(tmp_path / "raw") in output
