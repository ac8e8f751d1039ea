"""Several labels for a sample, or shares of classes: `LabelTable`, in a file beside the beton.

In: the classes of each sample. Out: targets, float32 [N, C]. The file is train.labels.npy: one row
(sample, class, value) for each label. The beton keeps one whole number for each sample, so that
stock ffcv opens it: see `LabelTable.first`.
"""

from __future__ import annotations

import hashlib
import io
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from slipform.pipelines.checksums import read_array
from slipform.pipelines.errors import DatasetError
from slipform.pipelines.files import read_regular, write_whole

__all__ = [
    "LabelKind",
    "LabelTable",
    "label_table_bytes",
    "label_table_path",
    "read_label_table",
    "write_label_table",
]

LabelKind = Literal["single", "multi", "soft"]
_ROW = np.dtype([("sample", "<i4"), ("class", "<i4"), ("value", "<f4")])
_SUM_TOLERANCE = 1e-3  # tolerance of the sum of a sample's shares, which are rounded to float32
_ZERO = 2.0**-150  # the largest number that is 0 in float32
_Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class LabelTable:
    """The labels of the samples of a split.

    Attributes:
        kind: "multi": a sample has any number of classes, also none. "soft": a sample has a share
            of each class; its shares sum to 1.
        num_samples: N.
        rows: [M], with fields sample, class, value; sorted by sample, then by class.

    Raises:
        DatasetError: The rows contradict the kind. The text names the first such sample.

    Example:
        >>> from slipform.pipelines.label_table import LabelTable
        >>> table = LabelTable.of_sets([[0, 2], [1], []])
        >>> table.targets([0, 2], num_classes=3).tolist()
        [[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    """

    kind: Literal["multi", "soft"]
    num_samples: int
    rows: npt.NDArray[Any]

    def __post_init__(self) -> None:
        sample, number, value = (self.rows[name] for name in ("sample", "class", "value"))
        place = sample.astype(np.int64) << 32 | number
        for what, bad in (
            ("a sample outside the split", (sample < 0) | (sample >= self.num_samples)),
            ("a negative class", number < 0),
            ("a class twice, or out of order", np.diff(place, prepend=-1) <= 0),
            ("a value that is not in 0..1", ~((value > 0) & (value <= 1))),
            ("a value other than 1", (value != 1) & (self.kind == "multi")),
        ):
            if bad.any():
                at = int(np.flatnonzero(bad)[0])
                raise DatasetError(f"the labels of sample {int(sample[at])} have {what}")
        if self.kind == "soft":
            sums = np.bincount(sample, value.astype(np.float64), self.num_samples)
            wrong = np.flatnonzero(np.abs(sums - 1) > _SUM_TOLERANCE)
            if len(wrong):
                raise DatasetError(
                    f"the shares of sample {wrong[0]} sum to {sums[wrong[0]]:g}: give shares that"
                    " sum to 1"
                )

    @staticmethod
    def of_sets(sets: Iterable[Iterable[int]]) -> LabelTable:
        """The table of samples that have several labels.

        Args:
            sets: For each sample its classes, in any order.

        Raises:
            DatasetError: A class is no whole number, or is negative.
        """
        return LabelTable.of_shares(map(_ones, sets), "multi")

    @staticmethod
    def of_shares(
        shares: Iterable[Mapping[int, float]], kind: Literal["multi", "soft"] = "soft"
    ) -> LabelTable:
        """The table of samples with shares of classes. Shares of 0 are left out.

        Args:
            shares: For each sample: class -> share, which sum to 1. Shares that are 0 in float32
                are left out.
            kind: "multi": all shares are 1, and need not sum to 1.

        Raises:
            DatasetError: A class is no whole number or is negative, or shares do not fit the kind.
        """
        rows, count = [], 0
        for count, one in enumerate(shares, start=1):
            try:
                entries = sorted((operator.index(k), float(share)) for k, share in one.items())
                rows += [(count - 1, k, x) for k, x in entries if not 0 <= x <= _ZERO]
            except (AttributeError, TypeError, ValueError):
                raise DatasetError(
                    f"the labels of sample {count - 1} are {one!r}: give whole numbers of classes,"
                    " and numbers as shares"
                ) from None
        try:
            return LabelTable(kind, count, np.array(rows, _ROW))
        except OverflowError:
            raise DatasetError("the labels have a class that is not below 2**31") from None

    @cached_property
    def _starts(self) -> _Int64:
        return np.searchsorted(self.rows["sample"], np.arange(self.num_samples + 1))

    def _rows_of(self, samples: Sequence[int] | _Int64) -> tuple[_Int64, npt.NDArray[Any]]:
        """The rows of some samples, and for each row the position of its sample among them."""
        at = np.asarray(samples, np.int64)
        starts = self._starts[at]
        counts = self._starts[at + 1] - starts
        ends = np.cumsum(counts)
        first = np.repeat(starts - ends + counts, counts)
        return np.repeat(np.arange(len(at)), counts), self.rows[first + np.arange(len(first))]

    def targets(self, samples: Sequence[int] | _Int64, num_classes: int) -> npt.NDArray[np.float32]:
        """The targets of some samples.

        Args:
            samples: int64 [n], their positions in the split.
            num_classes: C, the number of classes of the dataset.

        Returns:
            float32 [n, C]: 1 for each label of a sample and 0 for other classes, or its shares.
        """
        position, rows = self._rows_of(samples)
        out = np.zeros((len(samples), num_classes), np.float32)
        out[position, rows["class"]] = rows["value"]
        return out

    def subset(self, samples: Sequence[int] | _Int64) -> LabelTable:
        """The table of some samples, in their order.

        Args:
            samples: int64 [n], their positions in the split.
        """
        position, rows = self._rows_of(samples)
        rows["sample"] = position
        return LabelTable(self.kind, len(samples), rows)

    @staticmethod
    def joined(tables: Sequence[LabelTable]) -> LabelTable:
        """The table of the samples of several tables of one kind, one table after another.

        Args:
            tables: The tables, at least one.
        """
        counts = [table.num_samples for table in tables]
        rows = np.concatenate([table.rows for table in tables])
        rows["sample"] += np.repeat(np.cumsum(counts) - counts, [len(t.rows) for t in tables])
        return LabelTable(tables[0].kind, sum(counts), rows)

    def first(self) -> _Int64:
        """One class for each sample, which the beton stores.

        Returns:
            int64 [N]: the class with the largest share. If several classes have it, the first of
            them in the order of the classes. 0 for a sample without labels.
        """
        order = np.lexsort((self.rows["class"], -self.rows["value"], self.rows["sample"]))
        sorted_rows, found = self.rows[order], np.zeros(self.num_samples, np.int64)
        samples, at = np.unique(sorted_rows["sample"], return_index=True)
        found[samples] = sorted_rows["class"][at]
        return found

    def strata(self) -> _Int64:
        """One class for each sample, for stratified folds.

        Returns:
            int64 [N]: among the classes of the sample, the one that the fewest samples have; -1 for
            a sample without labels. With shares: `first`.
        """
        if self.kind == "soft" or not len(self.rows):
            return self.first() if self.kind == "soft" else np.full(self.num_samples, -1)
        frequency = np.bincount(self.rows["class"])[self.rows["class"]]
        order = np.lexsort((self.rows["class"], frequency, self.rows["sample"]))
        found = np.full(self.num_samples, -1)
        samples, at = np.unique(self.rows["sample"][order], return_index=True)
        found[samples] = self.rows["class"][order][at]
        return found

    def class_counts(self, num_classes: int) -> list[int]:
        """The number of samples with each class. With shares: with the class as largest share.

        Args:
            num_classes: C, the number of classes of the dataset.
        """
        numbers = self.rows["class"] if self.kind == "multi" else self.first()
        return [int(count) for count in np.bincount(numbers, minlength=num_classes)]


def _ones(classes: Iterable[int]) -> Mapping[int, float]:
    try:
        return dict.fromkeys(classes, 1.0)
    except TypeError:
        raise DatasetError(
            f"the labels of a sample are {classes!r}: give whole numbers of classes"
        ) from None


def label_table_path(beton: Path) -> Path:
    """The path of the table of a beton.

    Args:
        beton: Path of the beton: train.beton.

    Returns:
        The path beside it: train.labels.npy.
    """
    return beton.with_suffix(".labels.npy")


def write_label_table(beton: Path, table: LabelTable) -> str:
    """Write the table beside a beton.

    Args:
        beton: Path of the beton.
        table: The labels of its samples.

    Returns:
        The SHA-256 of the file in hex, for the manifest.

    Raises:
        OSError: The file cannot be written.
    """
    write_whole(label_table_path(beton), content := label_table_bytes(table))
    return hashlib.sha256(content).hexdigest()


def label_table_bytes(table: LabelTable) -> bytes:
    """The content of the file of a table.

    Args:
        table: The labels of samples.
    """
    np.save(file := io.BytesIO(), table.rows, allow_pickle=False)
    return file.getvalue()


def read_label_table(
    beton: Path, kind: LabelKind, sha256: str, num_samples: int, num_classes: int
) -> LabelTable | None:
    """Read the table of a beton.

    Args:
        beton: Path of the beton.
        kind: The manifest's `labels`.
        sha256: The SHA-256 of the file in hex, from the manifest.
        num_samples: Samples of the beton.
        num_classes: Classes of the dataset.

    Returns:
        The table. None: each sample has one label, which is in the beton.

    Raises:
        DatasetError: The file is missing, damaged, or not the one that prep wrote.
    """
    if kind == "single":
        return None
    path = label_table_path(beton)
    limit = num_samples * num_classes * _ROW.itemsize + 4096
    contents = f"{num_samples} samples and {num_classes} classes"
    content = read_regular(path, limit, contents, DatasetError)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DatasetError(f"{path} is not the file that prep wrote. Run prep again.")
    try:
        rows = read_array(content)
        if rows.dtype != _ROW or rows.ndim != 1:
            raise ValueError(f"it has {rows.dtype} {rows.shape}")
        if len(rows) and int(rows["class"].max()) >= num_classes:
            raise ValueError(f"it has a class that is not one of the {num_classes}")
        return LabelTable(kind, num_samples, rows)
    except Exception as error:  # numpy parses the header as Python code, which may raise anything
        raise DatasetError(f"{path} is damaged: {error}. Run prep again.") from error
