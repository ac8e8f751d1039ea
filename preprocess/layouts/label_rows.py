"""Labeled images as rows of any store: a list of files, Parquet, tars.

In: `Rows`, from the readers in preprocess/layouts: an image, its label as it was written, and its
split. Out: the classes, and the samples of each split.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from slipform.pipelines.errors import ConfigError, DatasetError, printable
from slipform.pipelines.label_table import LabelKind, LabelTable
from slipform.preprocess.layouts.contract import Divided, Hints
from slipform.preprocess.layouts.label_cells import separator_warning
from slipform.preprocess.layouts.label_names import Classes, Label, is_blank, names_in
from slipform.preprocess.listing import Listing, some
from slipform.preprocess.source import Labels
from slipform.preprocess.splits import canonical

__all__ = ["Parts", "Rows", "Store", "divide_rows"]

_SHOWN = 5
_BACKGROUND = "background"
_NO_HINTS = Hints()


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
        labels: The label of each row, as it was written.
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


def divide_rows(rows: Rows, place: Path, listing: Listing, hints: Hints = _NO_HINTS) -> Divided:
    """Number the labels and divide the rows into splits.

    Args:
        rows: The rows.
        place: Where they come from, for messages.
        listing: Rows that are left out are noted in it, with the reason.
        hints: What becomes of rows without a label, and whether their labels were divided.

    Returns:
        The classes, and the samples by split.

    Raises:
        ConfigError: A separator is given, and no row has several labels.
        DatasetError: No row can be used, there are no rows of train, a label is not a class, rows
            have labels of several kinds, or a row has no label and `unlabeled` is "error".
    """
    given = any(rows.splits)
    splits = [canonical(split) for split in rows.splits] if given else rows.splits
    kept, blank = [], 0
    for index, (label, split) in enumerate(zip(rows.labels, splits, strict=True)):
        without = is_blank(label)
        if without and hints.unlabeled == "error":
            raise _unlabeled_error(rows, place)
        if without and hints.unlabeled == "skip":
            reason = "it has no label"
        elif given and not rows.splits[index]:
            reason = "it has no split, and others have one"
        elif given and not split:
            reason = f"its split, {printable(rows.splits[index])}, is none of train, val, test"
        else:
            kept.append(index)
            blank += without
            continue
        listing.leave_out(rows.store.name(index), reason)
    if not kept:
        raise DatasetError(f"{place}: no image can be used. {_why(listing)}")
    if given and not any(splits[index] == "train" for index in kept):
        found = ", ".join(printable(name) for name in sorted(set(rows.splits))[:_SHOWN])
        raise DatasetError(
            f"{place}: no labeled image belongs to train; the splits are: {found}. {_why(listing)}"
        )
    kind = _kind(rows, kept, place)
    if hints.label_separator and kind != "multi":
        raise ConfigError(
            f'--label-separator "{printable(hints.label_separator)}" has no effect: no label of'
            f" {place} has it. Give the text that stands between labels, or leave it out."
        )
    # Names that a file or schema gives are classes, whatever is in them.
    if kind == "single" and rows.classes is None:
        warning = separator_warning(rows.labels[index] for index in kept)
        listing.warnings += [warning] if warning else []
    classes = Classes.of(rows.classes, (names_in(rows.labels[index]) for index in kept), place)
    background = list[str | int]()
    if blank and kind != "multi":
        classes, background = classes.with_class(_BACKGROUND), [_BACKGROUND]
    if blank:
        what = f"the class {_BACKGROUND}" if background else "none of the classes"
        listing.notes.append(f"images without a label: {blank:,}; they have {what}")
    numbers = [
        classes.numbers(names_in(rows.labels[index]) or background, rows.store.name(index))
        for index in kept
    ]
    members: dict[str, list[int]] = {}
    for position, index in enumerate(kept):
        members.setdefault(splits[index], []).append(position)
    parts = {
        split: _part(rows, [kept[p] for p in chosen], [numbers[p] for p in chosen], kind)
        for split, chosen in members.items()
    }
    return Divided(classes.names, parts, rows.rule)


def _kind(rows: Rows, kept: Sequence[int], place: Path) -> LabelKind:
    """The kind of the labels of some rows."""
    several, shares = (
        next((index for index in kept if isinstance(rows.labels[index], kind)), -1)
        for kind in (list, dict)
    )
    if several >= 0 and shares >= 0:
        raise DatasetError(
            f"{place}: {printable(rows.store.name(several))} has a list of labels, and"
            f" {printable(rows.store.name(shares))} has shares of classes. Write one of them for"
            " all images."
        )
    return "multi" if several >= 0 else "soft" if shares >= 0 else "single"


def _part(rows: Rows, indices: list[int], numbers: list[list[int]], kind: LabelKind) -> Parts:
    """The samples of one split."""
    at = np.array(indices, np.int64)
    if kind == "single":
        return Parts(rows.store, np.array([found[0] for found in numbers], np.int64), at)
    if kind == "multi":
        table = LabelTable.of_sets(numbers)
    else:
        labels = (rows.labels[index] for index in indices)
        table = LabelTable.of_shares(map(_shares, labels, numbers))
    return Parts(rows.store, table.first(), at, table)


def _shares(label: Label, numbers: list[int]) -> dict[int, float]:
    """The shares of the classes of a row. A single class has all."""
    found = dict.fromkeys(numbers, 0.0)
    values = label.values() if isinstance(label, dict) else [1.0]
    for number, share in zip(numbers, values, strict=True):  # two names may mean one class
        found[number] += share
    return found


def _unlabeled_error(rows: Rows, place: Path) -> DatasetError:
    without = [index for index, label in enumerate(rows.labels) if is_blank(label)]
    return DatasetError(
        f"{place}: images without a label: {len(without):,}"
        f" ({some([rows.store.name(index) for index in without])}). Label them, or leave them out:"
        f" --unlabeled skip. Or keep them: --unlabeled background"
    )


def _why(listing: Listing) -> str:
    """The most frequent reason for which rows were left out."""
    reasons = Counter(reason for _, reason in listing.left_out)
    return "".join(f"Left out {n:,} x: {reason}." for reason, n in reasons.most_common(1))
