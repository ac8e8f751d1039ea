"""Tables as text: CSV, TSV, JSONL.

In: a file. Out: its columns, and its rows as dictionaries, one after the other. The memory does not
grow with the file.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from slipform.pipelines.errors import DatasetError, printable
from slipform.pipelines.files import open_regular

__all__ = ["ENDINGS", "columns", "read_rows"]

ENDINGS = (".csv", ".tsv", ".jsonl")
_MAX_LINE = 1 << 20  # characters
_SEPARATORS = ",;\t|"
_QUOTED = re.compile(r'"[^"]*"')  # a name of a column may hold separators


def columns(path: Path) -> list[str]:
    """The names of the columns.

    Args:
        path: A file with one of `ENDINGS`.

    Returns:
        The first row of CSV and TSV, the keys of the first 100 objects of JSONL. Empty: there is no
        row below the first one, or no object.

    Raises:
        DatasetError: The file is not such a table.
    """
    some = 100 if path.suffix.lower() == ".jsonl" else 1
    found = dict[str, None]()
    try:
        for row in itertools.islice(read_rows(path), some):
            found |= dict.fromkeys(row)
    except DatasetError:
        if not found:
            raise  # a later row that is damaged is found when all are read
    return [*found]


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Read a table.

    Args:
        path: A file with one of `ENDINGS`.

    Yields:
        A row by its columns. Values of CSV and TSV are text. "" and null stand for no value.

    Raises:
        DatasetError: The file is not such a table: another encoding than UTF-8, a row with another
            number of values than the header, a line of more than 1 MiB.
    """
    with (
        open_regular(path, DatasetError) as raw,
        io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as text,
    ):
        number = 1
        try:
            rows = _objects(text) if path.suffix.lower() == ".jsonl" else _csv(text, path)
            for row in rows:
                yield row
                number += 1
        except UnicodeDecodeError:
            raise DatasetError(f"{path} is not UTF-8. Save it as UTF-8.") from None
        except (ValueError, RecursionError, csv.Error) as error:
            raise DatasetError(f"{path}, row {number}: {printable(str(error))}") from None


def _lines(text: IO[str]) -> Iterator[str]:
    """The lines, of at most 1 MiB."""
    while line := text.readline(_MAX_LINE):
        if len(line) >= _MAX_LINE:
            raise ValueError(f"a line has more than {_MAX_LINE:,} characters")
        yield line


def _csv(text: IO[str], path: Path) -> Iterator[dict[str, Any]]:
    lines = _lines(text)
    first = next(lines, "")
    separator = max(_SEPARATORS, key=_QUOTED.sub("", first).count)
    if path.suffix.lower() == ".tsv":
        separator = "\t"
    rows = csv.reader(itertools.chain([first], lines), delimiter=separator, strict=True)
    header = [name.strip() for name in next(rows, [])]
    if len(set(header)) < len(header):
        raise ValueError("two columns have the same name")
    for row in rows:
        if not row:
            continue
        if len(row) != len(header):
            raise ValueError(f"{len(row)} values for {len(header)} columns")
        yield dict(zip(header, row, strict=True))


def _objects(text: IO[str]) -> Iterator[dict[str, Any]]:
    for line in _lines(text):
        if line.strip():
            value = json.loads(line)
            if not isinstance(value, dict):
                raise ValueError("not an object in braces")
            yield value
