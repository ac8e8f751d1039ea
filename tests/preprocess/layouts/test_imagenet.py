"""ImageNet as it is downloaded: from image-net.org, from Kaggle, and Tiny ImageNet."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from slipform.pipelines.dataset import open_dataset
from tests.preprocess.sources import jpeg, prep, stored, write

SYNSETS = ("n01440764", "n02012849", "n03126707")  # tench, and the two cranes
CLASSES = ["tench", "crane (n02012849)", "crane (n03126707)"]
NAMES = "n01440764 tench, Tinca tinca\nn02012849 crane\nn03126707 crane\nn09999999 other\n"
ORDER = (2, 0, 1, 1)  # the class of each validation image


def val_name(number: int) -> str:
    return f"ILSVRC2012_val_{number + 1:08d}"


def images(root: Path, train: str = "train", val: str = "val") -> Path:
    for label, synset in enumerate(SYNSETS):
        for k in range(2):
            write(root / f"{train}/{synset}/{synset}_{k}.JPEG", jpeg(10 * label + k))
    for number in range(len(ORDER)):
        write(root / f"{val}/{val_name(number)}.JPEG", jpeg(100 + number))
    return root


def check(root: Path, names: list[str]) -> None:
    found = stored(root)
    assert open_dataset(root.parent / f"{root.name}-out").manifest.classes == names
    assert [(name, data) for _, name, data in found["train"]] == [
        (names[label], jpeg(10 * label + k)) for label in range(3) for k in range(2)
    ]
    assert [(name, data) for _, name, data in found["val"]] == [
        (names[label], jpeg(100 + number)) for number, label in enumerate(ORDER)
    ]


def test_kaggles_files(tmp_path: Path) -> None:
    root = images(tmp_path / "raw", "ILSVRC/Data/CLS-LOC/train", "ILSVRC/Data/CLS-LOC/val")
    write(root / "ILSVRC/Data/CLS-LOC/test/ILSVRC2012_test_00000001.JPEG", jpeg(7))
    write(root / "LOC_synset_mapping.txt", NAMES)
    rows = (f"{val_name(k)},{SYNSETS[label]} 85 1 499 272 " for k, label in enumerate(ORDER))
    write(root / "LOC_val_solution.csv", "\n".join(["ImageId,PredictionString", *rows]) + "\n")
    assert "layout: ImageNet: folders of synsets, LOC_synset_mapping.txt" in prep(root)
    check(root, CLASSES)
    report = (tmp_path / "raw-out/report.txt").read_text()
    assert "test/ILSVRC2012_test_00000001.JPEG: not in train/ or val/" in report
    assert "LOC_val_solution.csv: " not in report


def test_one_line_for_each_image(tmp_path: Path) -> None:
    root = images(tmp_path / "raw")
    lines = "".join(f"{SYNSETS[label]}\n" for label in ORDER)
    path = write(root / "imagenet_2012_validation_synset_labels.txt", lines)
    prep(root)
    check(root, [*SYNSETS])
    write(path, lines + "n01440764\n")
    assert "has 5 lines, and val has 4 images" in prep(root, code=1)


def test_the_development_kit(tmp_path: Path) -> None:
    import numpy as np
    from scipy.io import savemat

    root = images(tmp_path / "raw")
    numbers = {"n03126707": 1, "n01440764": 2, "n02012849": 3}  # in an order of its own
    kit = root / "ILSVRC2012_devkit_t12/data"
    lines = "".join(f"{numbers[SYNSETS[label]]}\n" for label in ORDER)
    truth = write(kit / "ILSVRC2012_validation_ground_truth.txt", lines)
    assert "meta.mat does, and that is missing" in prep(root, code=1)
    kind = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O")]
    rows = [(float(number), synset, "word") for synset, number in numbers.items()]
    savemat(kit / "meta.mat", {"synsets": np.array(rows, kind)[:, None]})
    prep(root)
    check(root, [*SYNSETS])
    write(truth, "9\n" * 4)
    assert "9 is no class of meta.mat" in prep(root, code=1)
    write(kit / "meta.mat", b"no matrix")
    assert "meta.mat is damaged" in prep(root, code=1)


def test_tiny_imagenet(tmp_path: Path) -> None:
    root = tmp_path / "tiny-imagenet-200"
    for label, synset in enumerate(SYNSETS):
        for k in range(2):
            write(root / f"train/{synset}/images/{synset}_{k}.JPEG", jpeg(10 * label + k))
        write(root / f"train/{synset}/{synset}_boxes.txt", f"{synset}_0.JPEG\t0\t0\t9\t9\n")
    for number in range(len(ORDER)):
        write(root / f"val/images/val_{number}.JPEG", jpeg(100 + number))
    write(root / "test/images/test_0.JPEG", jpeg(7))
    rows = (f"val_{k}.JPEG\t{SYNSETS[label]}\t0\t0\t9\t9\n" for k, label in enumerate(ORDER))
    write(root / "val/val_annotations.txt", "".join(rows))
    write(root / "words.txt", NAMES.replace(" ", "\t", 1))
    write(root / "wnids.txt", "\n".join(SYNSETS))
    prep(root)
    check(root, CLASSES)


def test_val_in_folders_of_synsets(tmp_path: Path) -> None:
    root = images(tmp_path / "raw")
    for number, label in enumerate(ORDER):
        folder = root / "val" / SYNSETS[label]
        folder.mkdir(exist_ok=True)
        os.rename(root / f"val/{val_name(number)}.JPEG", folder / f"{val_name(number)}.JPEG")
    write(root / "LOC_synset_mapping.txt", NAMES)
    prep(root)
    found = stored(root)["val"]
    assert sorted((name, data) for _, name, data in found) == sorted(
        (CLASSES[label], jpeg(100 + number)) for number, label in enumerate(ORDER)
    )


def test_val_without_a_list(tmp_path: Path) -> None:
    root = images(tmp_path / "raw")
    write(root / "LOC_synset_mapping.txt", NAMES)
    assert "Add the list of their labels" in prep(root, code=1)


def test_a_part_of_the_classes(tmp_path: Path) -> None:
    """A synset of val that train does not have, and a line without a synset."""
    root = images(tmp_path / "raw")
    rows = [f"{val_name(k)},{s} 1" for k, s in enumerate((SYNSETS[0], "n07777777"))]
    write(root / "LOC_val_solution.csv", "\n".join([*rows, "something else"]))
    prep(root)
    assert [name for _, name, _ in stored(root)["val"]] == [SYNSETS[0]]
    report = (tmp_path / "raw-out/report.txt").read_text()
    assert f"val/{val_name(1)}.JPEG: its synset, n07777777, has no image in train" in report
    assert f"val/{val_name(2)}.JPEG: its synset is unknown" in report


def test_lists_that_disagree(tmp_path: Path) -> None:
    root = images(tmp_path / "raw")
    lines = "".join(f"{SYNSETS[label]}\n" for label in ORDER)
    write(root / "imagenet_2012_validation_synset_labels.txt", lines)
    write(root / "LOC_val_solution.csv", f"{val_name(0)},{SYNSETS[0]} 1\n")
    assert "give different labels" in prep(root, code=1)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"", b"one two three\n"])
def test_damaged_lists(tmp_path: Path, content: bytes) -> None:
    root = images(tmp_path / "raw")
    write(root / "LOC_val_solution.csv", content)
    assert "LOC_val_solution.csv" in prep(root, code=1)
    (root / "LOC_val_solution.csv").unlink()
    write(root / "words.txt", content)
    assert "words.txt" in prep(root, code=1)
