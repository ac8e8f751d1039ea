"""Labels and names of classes as they are written in lists: numbers, texts, several of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slipform.pipelines.dataset import open_dataset
from slipform.pipelines.label_table import LabelTable
from slipform.preprocess.source import Arrays
from slipform.preprocess.splits import divide_samples
from tests.preprocess.sources import jpeg, prep, stored, write


def source(root: Path, labels: list[Any]) -> Path:
    for k in range(len(labels)):
        write(root / f"images/{k}.jpg", jpeg(k))
    rows = ({"image_id": k, "label": label} for k, label in enumerate(labels))
    write(root / "l.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    return root


def labels_of(root: Path) -> list[str]:
    return [label for _, label, _ in stored(root)["train"]]


def test_an_image_may_have_the_number_0(tmp_path: Path) -> None:
    root = source(tmp_path / "raw", ["a", "b", "a"])
    prep(root)
    assert [name for name, _, _ in stored(root)["train"]] == [f"images/{k}.jpg" for k in range(3)]


@pytest.mark.parametrize("written", [-1, "-1", -1.0])
def test_negative_numbers_are_no_classes(tmp_path: Path, written: Any) -> None:
    root = source(tmp_path / "raw", [0, 1, written])
    assert "some labels are -1" in prep(root, code=1)
    write(root / "classes.txt", "x\ny\n")
    assert "some labels are -1" in prep(root, code=1)
    names = write(tmp_path / "names.txt", "x\ny\n")
    assert "label -1" in prep(root, "--class-names", str(names), code=1)


@pytest.mark.parametrize("empty", [None, "", "  "])
def test_no_label(tmp_path: Path, empty: Any) -> None:
    root = source(tmp_path / "raw", [0, 1, empty])
    prep(root)
    assert labels_of(root) == ["0", "1"]
    assert "images/2.jpg: it has no label" in (tmp_path / "raw-out/report.txt").read_text()


@pytest.mark.parametrize(
    ("labels", "names", "words"),
    [
        ([1, 2, 1], "x\ny\nz\n", "the labels begin at 1"),
        ([1, 2, 3], "x\ny\nz\n", "it has 3 lines, and the labels are 1 to 3"),
        ([0, 1, 2], "1\n2\n3\n", "its lines are numbers"),
        ([0, 1, 0], "x\nx\n", "a name is there twice"),
        ([0, 1, 0], "x\n\ny\n", "has an empty line"),
    ],
)
def test_names_that_may_be_shifted_are_not_used(
    tmp_path: Path, labels: list[int], names: str, words: str
) -> None:
    root = source(tmp_path / "raw", labels)
    write(root / "classes.txt", names)
    text = prep(root)
    assert "classes.txt is not used" in text
    assert words in text
    assert labels_of(root) == [str(label) for label in labels]


def test_two_files_of_names(tmp_path: Path) -> None:
    root = source(tmp_path / "raw", [0, 1, 0])
    write(root / "classes.txt", "x\ny\n")
    write(root / "labels.txt", "y\nx\n")
    assert "labels.txt could have the names, too" in prep(root)
    assert labels_of(root) == ["0", "1", "0"]


def test_names_that_are_numbers(tmp_path: Path) -> None:
    """They are found by name: 1 is the class "1", not the second class."""
    root = source(tmp_path / "raw", [1, "2", "1.0"])
    names = write(tmp_path / "names.txt", "1\n2\n3\n")
    prep(root, "--class-names", str(names))
    assert labels_of(root) == ["1", "2", "1"]
    assert open_dataset(tmp_path / "raw-out").manifest.classes == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"image_id": 0, "label": ' + "[" * 400 + "]" * 400 + "}", "a list is no label"),
        ('{"image_id": ' + "[" * 400 + "]" * 400 + ', "label": 1}', "a list is no text"),
        ('{"image_id": {"a": 1}, "label": 1}', "a dict is no text"),
        ('{"image_id": 0, "label": 1, "split": [1]}', "a list is no text"),
        ('{"image_id": 0, "label": ' + "[" * 5000 + "]" * 5000 + "}", "row "),
    ],
)
def test_lists_where_text_is_expected(tmp_path: Path, line: str, words: str) -> None:
    root = source(tmp_path / "raw", ["a", "b"])
    with open(root / "l.jsonl", "a", encoding="utf-8") as file:
        file.write(line + "\n")
    assert words in prep(root, "--list", "l.jsonl", code=1)


def test_all_labels_of_an_image_decide_about_its_part() -> None:
    """Each class has its share in both parts, although `first` of all images is class 0."""
    sets = [[0, 1 + k % 4] for k in range(80)]
    table = LabelTable.of_sets(sets)
    every = Arrays(np.zeros((80, 2, 2, 3), np.uint8), table.first(), "made", table=table)
    for seed in range(5):
        staying, taken, rule = divide_samples(every, "val", "stratified", 0.25, seed)
        assert taken.table is not None
        assert staying.table is not None
        assert taken.table.class_counts(5) == [20, 5, 5, 5, 5]
        assert staying.table.class_counts(5) == [60, 15, 15, 15, 15]
    assert rule.endswith("by all labels of each image")
