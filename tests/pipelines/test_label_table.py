"""The label table: targets as a plain loop makes them, whole and damaged files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slipform.pipelines.errors import DatasetError
from slipform.pipelines.label_table import (
    LabelTable,
    label_table_path,
    read_label_table,
    write_label_table,
)

NUM, CLASSES = 200, 7


def sets() -> list[list[int]]:
    """0 to 4 labels a sample, in any order."""
    draws = np.random.default_rng(0)
    return [draws.permutation(CLASSES)[: draws.integers(5)].tolist() for _ in range(NUM)]


def shares() -> list[dict[int, float]]:
    draws = np.random.default_rng(1)
    rows = draws.dirichlet(np.ones(CLASSES), NUM) * (draws.random((NUM, CLASSES)) < 0.7)
    rows[rows.sum(1) == 0, 0] = 1
    return [dict(enumerate((row / row.sum()).tolist())) for row in rows]


def test_targets_are_those_of_a_plain_loop() -> None:
    want = np.zeros((NUM, CLASSES), np.float32)
    for row, labels in zip(want, sets(), strict=True):
        row[labels] = 1
    table = LabelTable.of_sets(sets())
    at = np.random.default_rng(2).integers(0, NUM, 50)  # in any order, some of them twice
    assert np.array_equal(table.targets(at, CLASSES), want[at])
    assert np.array_equal(table.subset(at).targets(range(50), CLASSES), want[at])
    both = LabelTable.joined([table.subset(at), table])
    assert np.array_equal(both.targets(range(250), CLASSES), np.concatenate([want[at], want]))
    assert table.first().tolist() == [min(labels, default=0) for labels in sets()]
    assert table.class_counts(CLASSES) == want.sum(0).astype(int).tolist()
    assert table.targets([], CLASSES).shape == (0, CLASSES)


def test_shares_are_kept_and_their_largest_is_the_label() -> None:
    want = np.array([[one.get(k, 0.0) for k in range(CLASSES)] for one in shares()], np.float32)
    table = LabelTable.of_shares(shares())
    assert np.array_equal(table.targets(range(NUM), CLASSES), want)
    assert np.array_equal(table.first(), want.argmax(1))
    counts = np.bincount(want.argmax(1), minlength=CLASSES)
    assert table.class_counts(CLASSES) == counts.tolist()


@pytest.mark.parametrize(
    ("rows", "kind", "says"),
    [
        ([(0, 1, 0.5), (0, 2, 0.4)], "soft", "sum to 0.9"),
        ([(0, 1, 0.5)], "multi", "sample 0 have a value other than 1"),
        ([(0, 1, 1.0), (0, 1, 1.0)], "multi", "a class twice"),
        ([(1, 0, 1.0), (0, 0, 1.0)], "multi", "out of order"),
        ([(0, -1, 1.0)], "multi", "a negative class"),
        ([(2, 0, 1.0)], "multi", "outside the split"),
        ([(0, 0, np.nan)], "soft", "not in 0..1"),
    ],
)
def test_rows_that_contradict_the_kind_are_refused(
    rows: list[object], kind: str, says: str
) -> None:
    dtype = LabelTable.of_sets([[]]).rows.dtype
    with pytest.raises(DatasetError, match=says):
        LabelTable(kind, 2, np.array(rows, dtype))  # type: ignore[arg-type]


def test_shares_of_float64_that_float32_rounds_to_0_are_left_out() -> None:
    table = LabelTable.of_shares([{0: 1 - 1e-60, 1: 1e-60}, {0: 0.5, 2: 0.5, 1: 1e-46}])
    assert table.targets([0, 1], 3).tolist() == [[1, 0, 0], [0.5, 0, 0.5]]
    small = np.array([[40.0, 0.0, -80.0]])  # a sharp softmax has such shares
    share = (np.exp(small) / np.exp(small).sum()).ravel()
    assert LabelTable.of_shares([dict(enumerate(share))]).first().tolist() == [0]
    with pytest.raises(DatasetError, match=r"not in 0\.\.1"):
        LabelTable.of_shares([{0: 1.0, 1: -1e-60}])
    limit = 2.0**-150  # halfway between 0 and the smallest number of float32
    above = float(np.nextafter(limit, 1))
    assert np.float32(limit) == 0
    assert np.float32(above) == np.float32(2.0**-149)
    assert len(LabelTable.of_shares([{0: 1.0, 1: limit, 2: above}]).rows) == 2


@pytest.mark.parametrize(
    ("shares", "says"),
    [
        ([{0: 1.0}, {"cat": 1.0}], "labels of sample 1 are {'cat': 1.0}: give whole numbers"),
        ([{0.5: 1.0}], "sample 0"),
        ([{0: "half"}], "sample 0"),
        ([{0: None}], "sample 0"),
        ([{0: 0.5, "a": 0.5}], "sample 0"),
        ([[0.5, 0.5]], "sample 0"),
        ([1], "sample 0"),
        ([{2**40: 1.0}], r"not below 2\*\*31"),
        ([{-1: 1.0}], "negative class"),
        ([{0: np.nan}], "not in 0..1"),
    ],
)
def test_wrong_shares_are_explained(shares: list[Any], says: str) -> None:
    for kind in ("soft", "multi"):
        with pytest.raises(DatasetError, match=says):
            LabelTable.of_shares(shares, kind)  # type: ignore[arg-type]


@pytest.mark.parametrize("sets", [[1, 2], [["cat"]], [[0, None]], [[[0]]]])
def test_wrong_sets_are_explained(sets: list[Any]) -> None:
    with pytest.raises(DatasetError, match="give"):
        LabelTable.of_sets(sets)


def test_a_longer_file_than_any_table_is_not_read(tmp_path: Path) -> None:
    beton = tmp_path / "train.beton"
    with open(label_table_path(beton), "wb") as file:
        file.truncate(1 << 40)  # without the limit: MemoryError
    with pytest.raises(DatasetError, match="too long for 200 samples and 7 classes"):
        read_label_table(beton, "multi", "", NUM, CLASSES)
    every = LabelTable.of_sets([list(range(CLASSES))] * NUM)  # the longest correct file
    sha256 = write_label_table(beton, every)
    assert read_label_table(beton, "multi", sha256, NUM, CLASSES) is not None


def test_a_message_has_one_period_between_its_sentences(tmp_path: Path) -> None:
    beton = tmp_path / "train.beton"
    sha256 = write_label_table(beton, LabelTable.of_shares([{0: 0.25, 1: 0.75}]))
    for kind in ("multi", "soft"):
        with pytest.raises(DatasetError) as caught:
            read_label_table(beton, kind, sha256, 2, 2)  # type: ignore[arg-type]
        assert ".. " not in caught.value.message
        assert caught.value.message.endswith(". Run prep again.")


def test_a_file_comes_back_and_another_one_is_refused(tmp_path: Path) -> None:
    beton, table = tmp_path / "train.beton", LabelTable.of_sets(sets())
    sha256 = write_label_table(beton, table)
    read = read_label_table(beton, "multi", sha256, NUM, CLASSES)
    assert read is not None
    assert np.array_equal(read.rows, table.rows)
    assert read_label_table(beton, "single", "", NUM, CLASSES) is None
    with pytest.raises(DatasetError, match="not one of the 5"):
        read_label_table(beton, "multi", sha256, NUM, 5)
    with pytest.raises(DatasetError, match="outside the split"):
        read_label_table(beton, "multi", sha256, 150, CLASSES)
    path = label_table_path(beton)
    content = path.read_bytes()
    for damaged in (content[:-1], content[:-1] + b"x", b""):
        path.write_bytes(damaged)
        with pytest.raises(DatasetError, match="not the file that prep wrote"):
            read_label_table(beton, "multi", sha256, NUM, CLASSES)
    path.unlink()
    with pytest.raises(DatasetError, match=r"train\.labels\.npy"):
        read_label_table(beton, "multi", sha256, NUM, CLASSES)


def test_a_pickle_is_not_loaded(tmp_path: Path) -> None:
    import hashlib

    file = io.BytesIO()
    np.save(file, np.array([{}], dtype=object), allow_pickle=True)
    beton = tmp_path / "train.beton"
    label_table_path(beton).write_bytes(file.getvalue())
    sha256 = hashlib.sha256(file.getvalue()).hexdigest()
    with pytest.raises(DatasetError, match="damaged"):
        read_label_table(beton, "multi", sha256, 1, 1)
