"""Columns of a list that are not used, and columns of true and false that give the splits."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from slipform.pipelines.dataset import open_dataset
from tests.preprocess.sources import jpeg, prep, stored, write


def listed(root: Path, header: str, cells: list[str], folder: str = "images") -> Path:
    for k in range(len(cells)):
        write(root / f"{folder}/{k}.jpg", jpeg(k))
    rows = (f"{k}.jpg,{'ab'[k % 2]},{cell}\n" for k, cell in enumerate(cells))
    write(root / "l.csv", f"path,label,{header}\n" + "".join(rows))
    return root


def splits(root: Path) -> dict[str, list[str]]:
    """By split: the names of the images, without folder and ending."""
    return {split: [Path(name).stem for name, _, _ in rows] for split, rows in stored(root).items()}


def test_columns_that_are_not_used_are_named(tmp_path: Path) -> None:
    root = listed(tmp_path / "raw", "width,note,split", ["8,x,train", "8,y,train", "8,z,test"])
    assert "note: columns not used: width, note\n" in prep(root, "--dry-run")
    assert "note: columns not used: width, note\n" in prep(root)
    assert "columns not used" not in prep(root, "--class-columns", "width,note", code=1)
    lists = dict.fromkeys(("train", "test"), "path,label\n0.jpg,a\n1.jpg,b\n")
    for name, text in lists.items():
        write(tmp_path / f"two/{name}.csv", text)
        for k in range(2):
            write(tmp_path / f"two/{name}/{k}.jpg", jpeg(k))
    assert "columns not used" not in prep(tmp_path / "two")


@pytest.mark.parametrize(
    "words", [("False", "True"), ("0", "1"), ("false", "true"), ("0.0", "1.0")]
)
def test_is_valid_of_fastai(tmp_path: Path, words: tuple[str, str]) -> None:
    root = listed(tmp_path / "raw", "is_valid", [words[k % 3 == 2] for k in range(6)])
    text = prep(root)
    assert splits(root) == {"train": ["0", "1", "3", "4"], "val": ["2", "5"]}
    assert "columns not used" not in text
    assert open_dataset(tmp_path / "raw-out").manifest.split_rule.startswith(
        "splits of the list by is_valid"
    )


def test_is_test_too(tmp_path: Path) -> None:
    cells = ["True,False", "False,True", "False,False", "False,False"]
    root = listed(tmp_path / "raw", "is_valid,Is Test", cells)
    prep(root)
    assert splits(root) == {"train": ["2", "3"], "val": ["0"], "test": ["1"]}


def test_a_list_of_train_and_a_list_of_test(tmp_path: Path) -> None:
    """PASCAL of fastai: only the list of train has the column."""
    root = listed(tmp_path / "raw", "is_valid", ["False", "True", "False", "True"])
    os.rename(root / "l.csv", root / "train.csv")
    prep(root)
    assert splits(root) == {"train": ["0", "2"], "val": ["1", "3"]}
    write(root / "test.csv", "path,label\n9.jpg,a\n")
    write(root / "images/9.jpg", jpeg(9))
    prep(root)
    assert splits(root) == {"train": ["0", "2"], "val": ["1", "3"], "test": ["9"]}
    os.rename(root / "test.csv", root / "val.csv")  # it has the images of val
    assert "note: columns not used: is_valid\n" in prep(root)
    assert splits(root) == {"train": ["0", "1", "2", "3"], "val": ["9"]}


@pytest.mark.parametrize(
    ("header", "cells"),
    [
        ("is_valid", ["True"] * 4),  # the images are valid
        ("is_valid", ["False", "True", "", "False"]),
        ("is_valid", ["False", "True", "yes", "False"]),
        ("is_valid,is_test", ["True,True", "False,False", "False,False", "False,True"]),
    ],
)
def test_what_is_no_split(tmp_path: Path, header: str, cells: list[str]) -> None:
    root = listed(tmp_path / "raw", header, cells)
    assert f"note: columns not used: {header.replace(',', ', ')}\n" in prep(root)
    assert splits(root) == {"train": ["0", "1", "2", "3"]}


def test_other_splits_come_first(tmp_path: Path) -> None:
    root = listed(tmp_path / "raw", "is_valid,split", ["0,train", "1,train", "1,val", "0,test"])
    assert "note: columns not used: is_valid\n" in prep(root)
    assert splits(root) == {"train": ["0", "1"], "val": ["2"], "test": ["3"]}
    root = listed(tmp_path / "folders", "is_valid", ["0", "1", "0", "1"], "train")
    assert "note: columns not used: is_valid\n" in prep(root)
    assert splits(root) == {"train": ["0", "1", "2", "3"]}
