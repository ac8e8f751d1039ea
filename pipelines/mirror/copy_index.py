"""The tables of a beton in an object store, without its images: `copy_index`.

In: a store, and what the manifest says about a beton. Out: a local file of the same size that has
header, metadata and table, and holes where the images are. `Beton` opens it.
"""

from __future__ import annotations

from pathlib import Path

from slipform.pipelines.beton_format import (
    DESCRIPTOR,
    HEADER,
    IMAGE_FIELD,
    INT_FIELD,
    TABLE_ROW,
    metadata_type,
)
from slipform.pipelines.manifest import BetonInfo
from slipform.pipelines.remote.store import Store

__all__ = ["copy_index", "index_bounds"]

_ROW = max(
    metadata_type(fields).itemsize
    for fields in ((INT_FIELD, IMAGE_FIELD), (IMAGE_FIELD, INT_FIELD))
)


def index_bounds(info: BetonInfo) -> tuple[int, int]:
    """Where the metadata of a beton ends, and where its table begins.

    Args:
        info: The beton, from the manifest.
    """
    table = max(0, info.bytes - info.num_samples * TABLE_ROW.itemsize)
    return min(table, HEADER.itemsize + 2 * DESCRIPTOR.itemsize + info.num_samples * _ROW), table


def copy_index(store: Store, info: BetonInfo, path: Path) -> None:
    """Copy the tables of a beton, in two requests.

    The content is checked by the reader of the file, as that of any beton.

    Args:
        store: The store.
        info: The beton, which has this size in the store.
        path: The file to write. It must not exist.

    Raises:
        StorageError: The object cannot be read.
        OSError: The disk is full or fails.
    """
    head, table = index_bounds(info)
    with open(path, "xb") as file:
        file.truncate(info.bytes)
        file.write(store.read_range(info.file, 0, head))
        file.seek(table)
        file.write(store.read_range(info.file, table, info.bytes))
