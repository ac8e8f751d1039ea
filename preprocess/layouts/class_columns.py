"""Labels as one column for each class: 0 and 1, or shares of the classes.

In: the values of these columns, row by row. Out: labels as the other readers of lists give them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slipform.pipelines.errors import DatasetError, printable
from slipform.preprocess.layouts.label_cells import check_sum
from slipform.preprocess.layouts.label_names import Label

__all__ = ["as_labels", "class_values"]

_Values = Mapping[str, float] | None  # class -> number other than 0; None: all cells are empty


def class_values(row: Mapping[str, Any], columns: Sequence[str]) -> _Values:
    """The numbers of the classes of a row.

    Args:
        row: The values of a row, as text or numbers.
        columns: The columns of the classes.

    Returns:
        Class -> number, 0 to 1, without those of 0. None: all cells are empty, so the row has no
        label.

    Raises:
        ValueError: A cell is empty, or is no number from 0 to 1.
    """
    cells = {name: row.get(name) for name in columns}
    if all(map(_is_empty, cells.values())):
        return None
    numbers = ((name, _number(name, cell)) for name, cell in cells.items())
    return {name: number for name, number in numbers if number}


def _is_empty(cell: Any) -> bool:
    return cell is None or cell != cell or (isinstance(cell, str) and not cell.strip())


def _number(name: str, cell: Any) -> float:
    try:
        value = float(cell) if isinstance(cell, str | int | float) else math.nan
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        shown = printable(str(cell))[:40] if cell is not None else ""
        raise ValueError(
            f'the column {printable(name)} has "{shown}": a column of a class has numbers from 0 to'
            " 1. Name the columns of the classes, such as --class-columns A,B,C"
        )
    return value


def as_labels(
    rows: Sequence[_Values], images: Sequence[str], place: Path
) -> tuple[list[Label], str]:
    """The labels of all rows.

    Args:
        rows: The numbers of the classes of each row.
        images: The name of the image of each row, for messages.
        place: The source, for messages.

    Returns:
        The labels: one class, if each row has a single 1; a list of classes, if all numbers are 0
        or 1; shares, if there are others. And what they are, in words.

    Raises:
        DatasetError: There are shares, and those of a row do not sum to 1.
    """
    known = [row for row in rows if row is not None]
    if any(value != 1 for row in known for value in row.values()):
        for row, image in zip(rows, images, strict=True):
            try:
                check_sum([1.0] if row is None else row.values())
            except ValueError as error:
                raise DatasetError(f"{place}: {printable(image)}: {error}.") from None
        return [None if row is None else dict(row) for row in rows], "shares of classes"
    chosen: list[list[str | int] | None] = [None if row is None else [*row] for row in rows]
    if all(names is None or len(names) == 1 for names in chosen):
        return [None if names is None else names[0] for names in chosen], "one label for each image"
    return [*chosen], "any number of labels for each image"
