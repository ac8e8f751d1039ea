"""The words for splits: those of folders of classes are those of lists, tars and Parquet files."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipform.pipelines.manifest import read_manifest
from slipform.preprocess.splits import canonical
from tests.preprocess.sources import jpeg, prep, write


def images(root: Path, *folders: str) -> None:
    for number, place in enumerate(
        f"{f}/{name}/{k}" for f in folders for name in "ab" for k in "12"
    ):
        write(root / f"{place}.jpg", jpeg(number))


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [("train", "dev", "test"), ("training", "valid", "eval"), ("trn", "Validation", "evaluation")],
)
def test_folders_have_the_words_of_lists(train: str, val: str, test: str, tmp_path: Path) -> None:
    images(tmp_path / "raw", train, val, test)
    assert [canonical(word) for word in (train, val, test)] == ["train", "val", "test"]
    prep(tmp_path / "raw")
    splits = read_manifest(tmp_path / "raw-out").splits
    assert {name: split.num_samples for name, split in splits.items()} == {
        "train": 4,
        "val": 4,
        "test": 4,
    }


def test_two_folders_of_one_split_are_an_error_with_a_next_step(tmp_path: Path) -> None:
    images(tmp_path / "raw", "train", "test", "eval")
    said = prep(tmp_path / "raw", code=1)
    assert "two folders for the split test: eval and test. Rename one of them" in said
