"""The lines of `prep --dry-run`: balance, formats, unusual files, suspicious names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from slipform.pipelines.errors import DatasetError
from slipform.pipelines.label_table import LabelTable
from slipform.preprocess.balance import balance
from slipform.preprocess.source import Files, SampleSource
from tests.preprocess.sources import jpeg, prep, write


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, number in (("cat", 1), ("dog", 30), ("Golden Retriever", 3), ("golden_retriever", 4)):
        for k in range(number):
            write(tmp_path / f"raw/{name}/{k}.jpg", jpeg(k))
    return tmp_path / "raw"


def test_the_classes(root: Path) -> None:
    text = prep(root, "--dry-run")
    assert "images per class in train: 1 (cat) to 30 (dog), median 3.5" in text
    assert "30 times as many images" in text
    assert "almost the same: Golden Retriever and golden_retriever" in text
    assert not (root.parent / "raw-out").exists()
    assert "almost the same" in prep(root)  # the account says it, too
    assert "almost the same" in (root.parent / "raw-out/report.txt").read_text()


def test_the_files(root: Path) -> None:
    Image.new("RGB", (40, 30)).save(root / "dog/a.png")
    write(root / "dog/b.png", jpeg(5))
    write(root / "dog/c.jpg", b"no image")
    write(root / "dog/d.jpg", jpeg(5)[:60])
    (root / "dog/e.jpg").symlink_to("nowhere")
    text = prep(root, "--dry-run")
    size = sum(path.stat().st_size for path in root.rglob("*.*g") if path.exists()) / 1e6
    assert f"looked at: 43 of 43 images; all take about {size:,.1f} MB" in text
    assert "formats: 39 JPEG, 1 PNG" in text
    assert "sizes: 8 to 40 px wide, 9 to 30 px high, median 8 x 9" in text
    assert "dog/b.png is JPEG" in text
    assert "warning: 3 cannot be used: dog/c.jpg (its content is not an image)" in text
    assert "dog/e.jpg (a link that cannot be followed" in text
    assert "Traceback" not in text


def test_images_that_are_not_jpegs(root: Path) -> None:
    for k in range(2):
        Image.new("RGB", (40, 30)).save(root / f"dog/a{k}.png")
    Image.fromarray(np.full((9, 8), 200, np.uint16)).save(root / "dog/dark.png")
    words = "note: 3 of 41 images are not JPEGs, and will be stored as JPEGs of quality 80."
    assert words in prep(root, "--quality", "80", "--dry-run")
    assert "not JPEGs" not in prep(root, "--encoding", "raw", "--dry-run")
    printed = prep(root).splitlines()
    report = (root.parent / "raw-out/report.txt").read_text().splitlines()
    assert "warning: 1 images use only 8 of their 16 bits and become dark." in " ".join(report)
    converted = [line for line in printed if line.startswith(("converted: ", "warning: "))]
    assert "3 not a jpeg" in " ".join(converted)
    assert [line for line in report if line.startswith(("converted: ", "warning: "))] == converted
    for path in root.glob("dog/*.png"):
        path.unlink()
    assert "not JPEGs" not in prep(root, "--dry-run")


def test_no_image_for_train(root: Path) -> None:
    """The dry run fails as the run does."""
    more = ("--val-fraction", "0.99", "--dry-run")
    for k in range(2, 40):
        (root / f"dog/{k}.jpg").unlink(missing_ok=True)
    assert "no image is left for train" in prep(root, *more, code=1)


@pytest.mark.parametrize("empty", ["train", "val"])
def test_an_empty_split(empty: str) -> None:
    labels = {name: np.zeros(0 if name == empty else 2, np.int64) for name in ("train", "val")}
    splits = {name: Files(Path(), ["x"] * len(found), found) for name, found in labels.items()}
    with pytest.raises(DatasetError, match=f"the split {empty} has no image"):
        SampleSource("made", ["a"], splits, "made by hand")


def test_a_part_of_many_images_is_looked_at(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slipform.preprocess.survey._LOOKED_AT", 10)
    assert "looked at: 10 of 38 images" in prep(root, "--dry-run")


def test_labels_of_one_split_only(tmp_path: Path) -> None:
    for place in ("train/a", "train/b", "val/a", "val/c"):
        write(tmp_path / f"raw/{place}/0.jpg", jpeg(0))
    text = prep(tmp_path / "raw", "--dry-run")
    assert "images per class in train: 1 in each class" in text
    assert "warning: 1 class has no training image: c" in text
    assert "note: 1 class has no image in val: b" in text


def _lines(*names: str) -> list[str]:
    """The lines about classes that have one image each."""
    labels = np.arange(len(names))
    files = Files(Path(), ["x"] * len(names), labels)
    return balance(SampleSource("made", list(names), {"train": files}, "made by hand"))


@pytest.mark.parametrize(
    ("names", "alike", "given"),
    [
        (("cat", "cats", "dog"), "cat and cats", ""),
        (("cat", "cat (1)"), "cat and cat (1)", "cat (1)"),
        (("fox", "fox - Copy", "ox"), "fox and fox - Copy", "fox - Copy"),
        (("New folder", "Untitled Folder 2", "ox"), "", "New folder, Untitled Folder 2"),
        (("glass", "glas", "bus", "class 1", "class 2", "Audi (2012)", "photocopy"), "", ""),
    ],
)
def test_suspicious_names(names: tuple[str, ...], alike: str, given: str) -> None:
    said = _lines(*names)
    same = f"warning: classes whose names are almost the same: {alike}"
    copied = f"note: names of new or copied folders as classes: {given}"
    assert [line for line in said if "almost" in line] == ([same] if alike else [])
    assert [line for line in said if "copied" in line] == ([copied] if given else [])


def test_a_class_that_has_shares_of_images_is_not_without_images() -> None:
    table = LabelTable.of_shares([{0: 0.7, 1: 0.3}, {2: 1.0}, {0: 1.0}])
    files = Files(Path(), ["x"] * 3, table.first(), table=table)
    classes = ["cat", "dog", "fox", "owl"]
    said = balance(SampleSource("made", classes, {"train": files}, "made by hand"))
    assert said[:3] == [
        "warning: 1 class has no training image: owl",
        "note: 1 class has the largest share of no training image: dog",
        "images per class in train: by largest share, 1 (fox) to 2 (cat), median 1.5",
    ]


def test_labels_that_are_texts(tmp_path: Path) -> None:
    rows = []
    for k in range(6):
        write(tmp_path / f"raw/images/{k}.jpg", jpeg(k))
        rows.append(f"{k}.jpg,a photo of number {k},train")
    rows.append("0.jpg,a photo of number 0,test")
    write(tmp_path / "raw/l.csv", "\n".join(["file,label,split", *rows]))
    text = prep(tmp_path / "raw", "--dry-run")
    assert "6 of 6 classes have one training image. Are the labels texts" in text
    assert "1 images are in two splits of the list" in text


def test_generated_images_have_no_formats() -> None:
    from click.testing import CliRunner

    from slipform.preprocess.cli import main

    result = CliRunner().invoke(main, ["shapes", "--out", "nowhere", "--dry-run"])
    assert result.exit_code == 0
    assert result.output.endswith("\ndry run: nothing was written\n")
    assert "looked at" not in result.output
