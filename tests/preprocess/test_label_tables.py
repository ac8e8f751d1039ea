"""Several labels a sample, or shares, from the source to the dataset folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from slipform.pipelines.beton import Beton
from slipform.pipelines.dataset import open_dataset
from slipform.pipelines.errors import DatasetError
from slipform.pipelines.label_table import LabelTable, label_table_path
from slipform.pipelines.manifest import read_manifest
from slipform.preprocess.build import build_dataset
from slipform.preprocess.source import Arrays, Generated, SampleSource
from slipform.preprocess.splits import with_val
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


def test_splits_must_agree(tmp_path: Path) -> None:
    single = Arrays(np.zeros((3, 9, 9, 3), np.uint8), np.zeros(3, np.int64), "made")
    splits = {**source().splits, "test": single}
    with pytest.raises(DatasetError, match="same kind of labels"):
        SampleSource("made", list("abcd"), splits, "")
