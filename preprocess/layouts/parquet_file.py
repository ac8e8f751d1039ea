"""Parquet files, opened and read in small batches. They need pyarrow, which is in the extra
`parquet`.

In: a path. Out: record batches of pyarrow. A file may be hostile: what a row group decodes to has a
limit, because values may be repeated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from slipform.pipelines.errors import ConfigError, DatasetError, printable
from slipform.pipelines.files import open_regular

__all__ = ["SMALLER", "batches", "opened"]

_BATCH_ROWS = 16  # rows that are decoded at once
SMALLER = "Write it again with smaller row groups (pyarrow: row_group_size=100)."


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """An open Parquet file. Exceptions of pyarrow become a DatasetError.

    Args:
        path: A regular file.

    Yields:
        A pyarrow.parquet.ParquetFile.

    Raises:
        ConfigError: pyarrow is not installed.
        DatasetError: The file is damaged.
        OSError: The disk fails.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise ConfigError(
            "Parquet files need pyarrow. Install it: pip install 'slipform[parquet]'"
        ) from None
    try:
        with (
            open_regular(path, DatasetError) as raw,
            parquet.ParquetFile(raw, pre_buffer=False) as file,
        ):
            yield file
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        if isinstance(error, DatasetError) or getattr(error, "errno", None):
            raise
        reason = printable(str(error).split("\n", 1)[0])
        raise DatasetError(f"{path} is damaged: {reason}. Download it again.") from None


def batches(
    file: Any, path: Path, number: int, columns: Sequence[str], limit: int
) -> Iterator[Any]:
    """The record batches of a row group.

    Args:
        file: See `opened`.
        path: Its path, for messages.
        number: The row group.
        columns: The columns that are read.
        limit: The most bytes that they may decode to.

    Yields:
        Record batches of pyarrow, of a few rows.

    Raises:
        DatasetError: The columns decode to more bytes, or rows are missing.
    """
    total, rows = 0, 0
    for batch in file.iter_batches(
        _BATCH_ROWS, row_groups=[number], columns=columns, use_threads=False
    ):
        total += batch.nbytes
        rows += batch.num_rows
        if total > limit:
            raise DatasetError(f"{path} has a row group of more than {limit:,} bytes. {SMALLER}")
        yield batch
    if rows != file.metadata.row_group(number).num_rows:
        raise DatasetError(f"{path} is damaged: rows are missing. Download it again.")
