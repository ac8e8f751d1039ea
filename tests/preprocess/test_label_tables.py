"""Several labels a sample, or shares, from the source to the dataset folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slipform.pipelines.beton import Beton
from slipform.pipelines.dataset import open_dataset
from slipform.pipelines.errors import DatasetError
from slipform.pipelines.label_table import LabelTable, label_table_path
from slipform.pipelines.manifest import read_manifest
from slipform.preprocess.build import build_dataset
from slipform.preprocess.source import Arrays, Files, Generated, SampleSource
from slipform.preprocess.splits import divide, with_val
from slipform.preprocess.verify import find_faults

SETS = [[k % 3] * (k % 4 > 0) + [3] * (k % 5 == 0) for k in range(60)]


def source(sets: list[list[int]] = SETS) -> SampleSource:
    pixels = np.random.default_rng(0).integers(0, 256, (len(sets), 12, 12, 3), np.uint8)
    table = LabelTable.of_sets(sets)
    every = Arrays(pixels, table.first(), "made", table=table)
    splits, rule = with_val(every, {}, val_split="stratified", val_fraction=0.2, seed=0)
    return SampleSource("made", list("abcd"), splits, rule)


def test_labels_come_back_in_both_splits(tmp_path: Path) -> None:
    manifest = build_dataset(source(), tmp_path / "out")
    assert read_manifest(tmp_path / "out") == manifest
    assert manifest.labels == "multi"
    assert "labels: any number for each image" in manifest.account
    data, seen = open_dataset(tmp_path / "out"), 0
    for split in ("train", "val"):
        names = [(tmp_path / "out" / f"{split}.names.txt").read_text().split()][0]
        for index, name in enumerate(names):
            labels = SETS[int(name.partition(":")[2])]
            assert np.flatnonzero(data.targets(split, index)).tolist() == sorted(labels)
            assert data.label(split, index) == min(labels, default=0)
            seen += 1
        counts = sum(data.targets(split, i) for i in range(len(names)))
        assert manifest.splits[split].label_counts == counts.astype(int).tolist()
    assert seen == len(SETS)
    assert list(find_faults(tmp_path / "out", manifest)) == []


def test_a_rejected_sample_takes_its_labels_with_it(tmp_path: Path) -> None:
    def make(index: int) -> bytes | np.ndarray:
        return b"no image" if index in (0, 7) else np.full((9, 9, 3), index, np.uint8)

    table = LabelTable.of_sets(SETS)
    samples = Generated(make, table.first(), "made", table)
    made = SampleSource("made", list("abcd"), {"train": samples}, "")
    build_dataset(made, tmp_path / "out", on_bad="skip")
    data, left = open_dataset(tmp_path / "out"), [k for k in range(60) if k not in (0, 7)]
    beton = Beton(tmp_path / "out" / "train.beton")
    for index, number in enumerate(left):
        assert beton.raw(index)[0, 0, 0] == number
        found = np.flatnonzero(data.targets("train", index))
        assert found.tolist() == sorted(SETS[number])


def test_a_missing_or_foreign_table_is_a_fault(tmp_path: Path) -> None:
    manifest = build_dataset(source(), tmp_path / "out")
    path = label_table_path(tmp_path / "out" / "train.beton")
    path.write_bytes(path.read_bytes()[:-1])
    label_table_path(tmp_path / "out" / "val.beton").unlink()
    faults = list(find_faults(tmp_path / "out", manifest))
    assert len(faults) == 2
    assert "train.labels.npy is not the file" in faults[0]
    assert "val.labels.npy" in faults[1]


def test_a_dataset_is_replaced_by_the_same_command(tmp_path: Path) -> None:
    """With every kind of file that prep writes."""

    def make(index: int) -> bytes | np.ndarray:
        return b"no image" if index == 7 else np.full((9, 9, 3), index, np.uint8)

    table = LabelTable.of_sets(SETS)
    every = Generated(make, table.first(), "made", table)
    made = SampleSource("made", list("abcd"), {"train": every, "val": every, "test": every}, "")
    first = build_dataset(made, tmp_path / "out", on_bad="skip")
    written = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert {"val.labels.npy", "val.names.txt", "rejected.csv"} <= {*written}
    assert build_dataset(made, tmp_path / "out", on_bad="skip") == first
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == written


@pytest.mark.parametrize(
    ("labels", "sets", "says"),
    [
        ([0, 1, 4], None, "a label of train is 4, and there are 4 classes"),
        ([0, -1, 2], None, "a label of train is -1"),
        ([0.0, 1.0, 2.0], None, "float64"),
        ([[0], [1], [2]], None, r"\(3, 1\): give int64 \[N\]"),
        ([0, 1, 2], [[0], [1]], "3 labels, and a table of labels for 2 samples"),
        ([0, 1, 2], [[0], [1], [2], [3]], "3 labels, and a table of labels for 4 samples"),
        ([0, 1, 2], [[0], [1], [2, 7]], "a label of train is 7, and there are 4 classes"),
        ([0, 1, 3], [[0], [1], [2, 3]], r"sample 2 of train has label 3.*table.first\(\)"),
    ],
)
def test_labels_must_belong_to_samples_and_classes(
    labels: list[Any], sets: list[list[int]] | None, says: str
) -> None:
    table = None if sets is None else LabelTable.of_sets(sets)
    samples = Generated(lambda _: b"", np.array(labels), "made", table)
    with pytest.raises(DatasetError, match=says):
        SampleSource("made", list("abcd"), {"train": samples}, "")


def test_samples_and_labels_are_as_many() -> None:
    pixels, labels = np.zeros((3, 9, 9, 3), np.uint8), np.zeros(4, np.int64)
    with pytest.raises(DatasetError, match="3 images and 4 labels"):
        Arrays(pixels, labels, "made")
    with pytest.raises(DatasetError, match="2 images and 4 labels"):
        Arrays(pixels, labels, "made", np.array([0, 2]))
    with pytest.raises(DatasetError, match="1 paths and 4 labels"):
        Files(Path("photos"), ["a.jpg"], labels)


@pytest.mark.parametrize(
    ("path", "given"),
    [
        (Path("photos/a.jpg"), r"PosixPath\('photos/a.jpg'\)"),
        ("/photos/a.jpg", "'/photos/a.jpg'"),
        (b"a.jpg", "b'a.jpg'"),
    ],
)
def test_paths_are_relative_texts(path: Any, given: str) -> None:
    labels = np.zeros(2, np.int64)
    assert Files(Path("photos"), ["a.jpg", "b/c.jpg"], labels).name(1) == "b/c.jpg"
    allowed = f"paths holds {given}: give texts relative to the folder, path.relative_to"
    with pytest.raises(DatasetError, match=allowed):
        Files(Path("photos"), ["a.jpg", path], labels)


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.25, 0.5, 1.0])
def test_each_label_is_divided_as_the_whole(fraction: float) -> None:
    """Also a label that is seldom the first one of its samples. Source: see `_taken_by_label`."""
    draws = np.random.default_rng(1)
    hits = draws.random((600, 8)) < [0.7, 0.4, 0.3, 0.1, 0.05, 0.03, 0.02, 0.0]
    table = LabelTable.of_sets([np.flatnonzero(row).tolist() for row in hits])
    made = Generated(lambda _: b"", table.first(), "made", table)
    staying, taken = divide(made, "stratified", fraction, 0)
    assert sorted([*staying, *taken]) == list(range(600))
    assert abs(len(taken) - 600 * fraction) <= 1
    # Two labels of one sample may pull in two directions, which costs a sample here and there.
    assert (abs(hits[taken].sum(0) - hits.sum(0) * fraction) <= 2).all()
    again, other = (divide(made, "stratified", fraction, seed)[1] for seed in (0, 1))
    assert np.array_equal(again, taken)
    assert np.array_equal(other, taken) == (fraction in (0.0, 1.0))


def test_one_label_each_is_divided_as_without_a_table() -> None:
    """Shares are divided by the largest one, and the numbers of several labels are rounded."""
    labels = np.repeat(np.arange(4), [10, 20, 31, 3])
    single = Generated(lambda _: b"", labels, "made")
    soft = LabelTable.of_shares([{int(k): 0.75, 3 - int(k): 0.25} for k in labels])
    want = divide(single, "stratified", 0.2, 5)
    for part, got in zip(
        want, divide(replace(single, table=soft), "stratified", 0.2, 5), strict=True
    ):
        assert np.array_equal(part, got)
    multi = replace(single, table=LabelTable.of_sets([[int(k)] for k in labels]))
    taken = divide(multi, "stratified", 0.2, 5)[1]
    assert np.bincount(labels[taken]).tolist() == [2, 4, 6, 1]


def test_splits_must_agree(tmp_path: Path) -> None:
    single = Arrays(np.zeros((3, 9, 9, 3), np.uint8), np.zeros(3, np.int64), "made")
    splits = {**source().splits, "test": single}
    with pytest.raises(DatasetError, match="same kind of labels"):
        SampleSource("made", list("abcd"), splits, "")
