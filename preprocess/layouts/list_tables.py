"""Tables that list images: CSV, TSV, JSONL, and Parquet files without the bytes of images.

In: a file. Out: its columns, and its rows as dictionaries, one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from slipform.pipelines.errors import DatasetError
from slipform.preprocess.layouts import text_tables
from slipform.preprocess.layouts.parquet_columns import holds_images, label_classes
from slipform.preprocess.layouts.parquet_file import batches, opened

__all__ = ["ENDINGS", "class_label", "columns", "is_list", "read_rows"]

_PARQUET = (".parquet", ".pq")
ENDINGS = (*text_tables.ENDINGS, *_PARQUET)
_METADATA = "metadata.parquet"  # of Hugging Face's imagefolder
_GROUP_BYTES = 256 << 20  # what the columns of a row group may decode to


def is_list(path: Path) -> bool:
    """Whether a file may be a list of images that nobody named.

    Args:
        path: A file with one of `ENDINGS`.

    Returns:
        True for a text table, and for metadata.parquet without the bytes of images. Other Parquet
        files belong to the layout `parquet`.

    Raises:
        ConfigError: pyarrow is not installed.
        DatasetError: The file is damaged.
    """
    if not _is_parquet(path):
        return True
    if path.name.lower() != _METADATA:
        return False
    with opened(path) as file:
        return not holds_images(file.schema_arrow)


def columns(path: Path) -> list[str]:
    """The names of the columns.

    Args:
        path: A file with one of `ENDINGS`.

    Returns:
        The names. Empty: there is no row.

    Raises:
        ConfigError: pyarrow is not installed.
        DatasetError: The file is not such a table.
    """
    if not _is_parquet(path):
        return text_tables.columns(path)
    with opened(path) as file:
        names = [str(name) for name in file.schema_arrow.names]
        if len(set(names)) < len(names):
            raise DatasetError(f"{path}: two columns have the same name.")
        return names if file.metadata.num_rows else []


def class_label(path: Path, column: str) -> tuple[str, ...] | None:
    """The names of the classes, where the schema of a Parquet file says them (ClassLabel).

    Args:
        path: A file with one of `ENDINGS`.
        column: The column with the label.

    Raises:
        DatasetError: The file is damaged.
    """
    if not _is_parquet(path) or not column:
        return None
    with opened(path) as file:
        return label_classes(path, file.schema_arrow, column)


def read_rows(path: Path, wanted: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Read a table. The memory does not grow with the file.

    Args:
        path: A file with one of `ENDINGS`.
        wanted: The columns that are needed. Text tables give all columns.

    Yields:
        A row by its columns. Values of CSV and TSV are text. "" and None stand for no value.

    Raises:
        ConfigError: pyarrow is not installed.
        DatasetError: The file is not such a table, or a row group decodes to more than 256 MiB.
    """
    if not _is_parquet(path):
        yield from text_tables.read_rows(path)
        return
    with opened(path) as file:
        for number in range(file.metadata.num_row_groups):
            for batch in batches(file, path, number, list(wanted), _GROUP_BYTES):
                yield from batch.to_pylist()


def _is_parquet(path: Path) -> bool:
    return path.name.lower().endswith(_PARQUET)
