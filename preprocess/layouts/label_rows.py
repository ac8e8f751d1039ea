"""Labeled images as rows of any store: a list of files, Parquet, tars.

In: `Rows`, from the readers in preprocess/layouts: an image, its label as it was written, and its
split. Out: the classes, and the samples of each split.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from slipform.pipelines.errors import DatasetError, nearest, printable
from slipform.pipelines.label_table import LabelTable
from slipform.preprocess.layouts.contract import Divided
from slipform.preprocess.listing import Listing
from slipform.preprocess.source import Labels
from slipform.preprocess.splits import canonical

__all__ = ["Label", "Parts", "Rows", "Store", "divide_rows", "whole_number"]

_SHOWN = 5

Label: TypeAlias = str | int | list[str | int] | None


class Store(Protocol):
    """Images that can be read one by one."""

    def name(self, index: int) -> str:
        """The name of an image for people.

        Args:
            index: Number of its row.
        """

    def read(self, index: int) -> bytes:
        """Read an image. Several threads may call it at the same time.

        Args:
            index: Number of its row.

        Returns:
            The bytes of an image file.

        Raises:
            ValueError: The image cannot be used.
            OSError: The disk fails.
        """

    def num_bytes(self, index: int) -> int:
        """The bytes of an image, known before it is read. 0: unknown.

        Args:
            index: Number of its row.
        """


@dataclass(frozen=True)
class Parts:
    """Samples that are rows of a store.

    Attributes:
        store: The images.
        labels: int64 [N].
        indices: int64 [N], the row of each sample.
        table: Several labels for each sample, whose `first` is `labels`. None: one label each.
    """

    store: Store
    labels: Labels
    indices: npt.NDArray[np.int64]
    table: LabelTable | None = None

    def name(self, index: int) -> str:
        """The name of a sample for people.

        Args:
            index: Position of the sample.
        """
        return self.store.name(int(self.indices[index]))

    def read(self, index: int) -> bytes:
        """Read a sample. Several threads may call it at the same time.

        Args:
            index: Position of the sample.

        Returns:
            The bytes of an image file.

        Raises:
            ValueError: The sample cannot be used.
            OSError: The disk fails.
        """
        return self.store.read(int(self.indices[index]))

    def num_bytes(self, index: int) -> int:
        """The bytes of a sample; see `Store`.

        Args:
            index: Position of the sample.
        """
        return self.store.num_bytes(int(self.indices[index]))

    def subset(self, indices: npt.NDArray[np.int64]) -> Parts:
        """Select samples.

        Args:
            indices: int64 [n], their positions.
        """
        table = None if self.table is None else self.table.subset(indices)
        return Parts(self.store, self.labels[indices], self.indices[indices], table)


@dataclass
class Rows:
    """Labeled images.

    Attributes:
        store: The images.
        labels: The label of each row: a name, a number, or a list of several. None: unknown.
        splits: The split of each row, as it was written. "": none is given.
        classes: Names of the classes, in the order of their numbers. A label that is a number is a
            position in it, unless names are numbers: then it is a name. None: the classes follow
            from the labels.
        rule: How the splits were given, in words.
    """

    store: Store
    labels: list[Label]
    splits: list[str]
    classes: Sequence[str] | None = None
    rule: str = ""


def divide_rows(rows: Rows, place: Path, listing: Listing) -> Divided:
    """Number the labels and divide the rows into splits.

    Args:
        rows: The rows.
        place: Where they come from, for messages.
        listing: Rows that are left out are noted in it, with the reason.

    Returns:
        The classes, and the samples by split.

    Raises:
        DatasetError: No row can be used, there are no rows of train, or a label is not a class.
    """
    given = any(rows.splits)
    splits = [canonical(split) for split in rows.splits] if given else rows.splits
    kept = []
    for index, (label, split) in enumerate(zip(rows.labels, splits, strict=True)):
        if label is None or (isinstance(label, str) and not label.strip()):
            reason = "it has no label"
        elif given and not rows.splits[index]:
            reason = "it has no split, and others have one"
        elif given and not split:
            reason = f"its split, {printable(rows.splits[index])}, is none of train, val, test"
        else:
            kept.append(index)
            continue
        listing.leave_out(rows.store.name(index), reason)
    if not kept:
        raise DatasetError(f"{place}: no image can be used. {_why(listing)}")
    if given and not any(splits[index] == "train" for index in kept):
        found = ", ".join(printable(name) for name in sorted(set(rows.splits))[:_SHOWN])
        raise DatasetError(
            f"{place}: no labeled image belongs to train; the splits are: {found}. {_why(listing)}"
        )
    written = [_listed(rows.labels[index]) for index in kept]
    classes = _classes(rows, written, place)
    known = {str(whole_number(name)): number for number, name in enumerate(classes)}
    positions = rows.classes is not None and not any(
        type(whole_number(name)) is int for name in classes
    )
    numbers = [
        [_number(rows.store.name(index), label, known, positions, place) for label in labels]
        for index, labels in zip(kept, written, strict=True)
    ]
    several = any(isinstance(rows.labels[index], list) for index in kept)
    members: dict[str, list[int]] = {}
    for position, index in enumerate(kept):
        members.setdefault(splits[index], []).append(position)
    parts = {
        split: _part(rows, [kept[p] for p in chosen], [numbers[p] for p in chosen], several)
        for split, chosen in members.items()
    }
    return Divided(classes, parts, rows.rule)


def _part(rows: Rows, indices: list[int], numbers: list[list[int]], several: bool) -> Parts:
    """The samples of one split."""
    table = LabelTable.of_sets(numbers) if several else None
    labels = np.array([found[0] for found in numbers], np.int64) if table is None else table.first()
    return Parts(rows.store, labels, np.array(indices, np.int64), table)


def _listed(label: Label) -> list[str | int]:
    """The labels of a row, whole numbers as numbers."""
    several = label if isinstance(label, list) else [label]
    return [whole_number(one) for one in several if one is not None and str(one).strip()]


def _why(listing: Listing) -> str:
    """The most frequent reason for which rows were left out."""
    reasons = Counter(reason for _, reason in listing.left_out)
    return "".join(f"Left out {n:,} x: {reason}." for reason, n in reasons.most_common(1))


def _classes(rows: Rows, written: list[list[str | int]], place: Path) -> list[str]:
    """The names of the classes, in the order of their numbers."""
    if rows.classes is None:
        found = {label for labels in written for label in labels}
        numbers = sorted(label for label in found if isinstance(label, int))
        if len(numbers) < len(found):
            return sorted({_text(str(label)) for label in found})
        if numbers and numbers[0] < 0:
            raise DatasetError(
                f"{place}: some labels are {numbers[0]}. If that stands for no label, leave it"
                " empty. If it is a class, write a name."
            )
        return [str(number) for number in numbers]
    names = [_text(name) for name in rows.classes]
    count = Counter(str(whole_number(name)) for name in names)
    if len(count) < len(names):
        twice = next(name for name, times in count.items() if times > 1)
        raise DatasetError(f"{place}: the class name {printable(twice)} is there twice.")
    return names


def _number(
    name: str, label: str | int, known: dict[str, int], positions: bool, place: Path
) -> int:
    """The number of the class of a label."""
    number = known.get(_text(str(label)), -1)
    if positions and type(label) is int:
        number = label
    if not 0 <= number < len(known):
        raise DatasetError(
            f"{place}: the label {printable(str(label))} of {printable(name)} is not one of the"
            f" {len(known):,} classes." + nearest(str(label), known)
        )
    return number


def whole_number(label: str | int) -> str | int:
    """A label as a number if it is written as a whole number.

    Args:
        label: A label.

    Returns:
        The number, or the label.
    """
    if isinstance(label, str):
        text = label.strip()
        whole = text.removesuffix(".0")  # pandas writes "3.0" in a column with missing values
        digits = whole.removeprefix("-")
        if digits.isascii() and digits.isdigit() and len(digits) < 10 and str(int(whole)) == whole:
            return int(whole)
    return label


def _text(name: str) -> str:
    name = name.encode("utf-8", "backslashreplace").decode()  # JSON may contain a lone surrogate
    return unicodedata.normalize("NFC", name.strip())
