"""The rows of lists of images, as they are written: image, label, split.

In: the lists and their columns. Out: `Written`. No image is looked for here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from slipform.pipelines.errors import DatasetError
from slipform.preprocess.layouts.class_columns import as_labels, class_values
from slipform.preprocess.layouts.contract import Hints
from slipform.preprocess.layouts.label_cells import as_label
from slipform.preprocess.layouts.label_names import Label
from slipform.preprocess.layouts.list_columns import Columns, split_of_marks, text_of
from slipform.preprocess.layouts.list_tables import class_label, read_rows
from slipform.preprocess.layouts.parquet_columns import named
from slipform.preprocess.listing import Listing

__all__ = ["Written", "read_lists"]


@dataclass(frozen=True)
class Written:
    """The rows of all lists, one list after another.

    Attributes:
        entries: For each row the folder of its list below the source, and the image.
        labels: The label of each row.
        splits: The split of each row. "": none is given.
        marked: The split of each row, where columns such as is_valid divide the rows of train.
            Empty: there are none, or they give no splits.
        classes: The names of the classes, where the lists say them. None: they do not.
    """

    entries: list[tuple[str, str]]
    labels: list[Label]
    splits: list[str]
    marked: list[str]
    classes: Sequence[str] | None


def read_lists(
    lists: Mapping[Path, Columns],
    splits: Mapping[Path, str],
    folder: Path,
    hints: Hints,
    listing: Listing,
) -> Written:
    """Read lists of images.

    Args:
        lists: The lists, at least one, with their columns.
        splits: The split of each list, for lists without a column of splits.
        folder: The folder of the source.
        hints: What the options say.
        listing: It is noted in it how columns of classes are understood.

    Returns:
        Their rows.

    Raises:
        DatasetError: A list is damaged, a value is no label, or the lists have other columns of
            classes than the first one.
    """
    entries, labels, splits_of_rows = list[tuple[str, str]](), list[Label](), list[str]()
    marked = list[str]()
    values, names = [], dict[tuple[str, ...] | None, None]()
    first = next(iter(lists))
    for path, columns in lists.items():
        if columns.classes != lists[first].classes:
            raise DatasetError(
                f"{path} has other columns of classes than {first.name}. Name those of both,"
                " such as --class-columns A,B,C"
            )
        below = str(path.parent.relative_to(folder))
        own = None if hints.class_names else class_label(path, columns.label)
        names[columns.classes or own] = None
        for number, row in enumerate(read_rows(path, columns.names), 1):
            try:
                if columns.classes:
                    values.append(class_values(row, columns.classes))
                else:
                    label = as_label(row.get(columns.label), columns.label, hints.label_separator)
                    labels.append(named(label, own))
                entries.append((below, text_of(row.get(columns.image))))
                split = text_of(row.get(columns.split)) if columns.split else splits[path]
                splits_of_rows.append(split)
                divided = columns.marks and split in ("", "train")
                marked.append(split_of_marks(row, columns.marks) if divided else split)
            except ValueError as error:
                raise DatasetError(f"{path}, row {number}: {error}.") from None
    if lists[first].classes:
        labels, words = as_labels(values, [entry for _, entry in entries], folder)
        listing.notes.append(f"the columns of the classes are read as {words}")
    classes = next(iter(names)) if len(names) == 1 else None
    marks = {split for columns in lists.values() for split in columns.marks.values()}
    others = any(columns.split for columns in lists.values()) or marks & {*splits.values()}
    usable = marks and not others and all(marked) and "train" in marked
    return Written(entries, labels, splits_of_rows, marked if usable else [], classes)
