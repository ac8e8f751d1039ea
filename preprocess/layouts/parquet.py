"""Parquet files with the bytes of images, as the Hugging Face hub stores datasets of images.

In: a folder with Parquet files, named after their split (train-00000-of-00002.parquet) or in
folders of splits, or one file. A column holds the image: its bytes, or {bytes, path}. Out: the
rows. Names of classes come from the schema's metadata (ClassLabel). It needs pyarrow.
metadata.parquet, which lists images that are files, belongs to the layout `list`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from slipform.pipelines.errors import SlipformError, printable
from slipform.preprocess.layouts.contract import Divided, Finding, Hints, Layout

if TYPE_CHECKING:
    from slipform.preprocess.listing import Listing

__all__ = ["LAYOUT"]

_ENDINGS = (".parquet", ".pq")
_MAX_FOLDERS = 50  # more are folders of classes, and would take long to list


def _find(place: Path, hints: Hints) -> Finding:
    """The Parquet files, by their ending."""
    found = _files(place)
    shown = ", ".join(printable(path.name) for path in found[:3])
    return Finding(f"{len(found)} Parquet files, {shown}" if found else "")


def _read(place: Path, hints: Hints, listing: Listing) -> Divided:
    from slipform.preprocess.layouts.label_rows import divide_rows
    from slipform.preprocess.layouts.parquet_rows import read_parquet
    from slipform.preprocess.layouts.source_files import folder_of, note_others
    from slipform.preprocess.splits import split_of_path

    files, folder = _files(place), folder_of(place)
    paths = [str(path.relative_to(folder)) for path in files]
    # The name of a single file says which part of a dataset it is, not what is wanted from it.
    rows = read_parquet(folder, paths, hints, split_of_path if place.is_dir() else lambda path: "")
    listing.layout = f"{len(files)} Parquet files ({rows.rule})"
    listing.used[".parquet"] = len(rows.labels)
    note_others(place, files, "file beside the Parquet files", listing)
    rows.rule = "splits by the names of files" if any(rows.splits) else ""
    return divide_rows(rows, place, listing, hints)


def _files(place: Path) -> list[Path]:
    """The Parquet files in a folder and in its folders, sorted."""
    from slipform.preprocess.layouts.source_files import find_files, visible

    folders = [name for name in visible(place) if (place / name).is_dir()]
    found = find_files(place, _ENDINGS, folders if len(folders) <= _MAX_FOLDERS else [])
    return [path for path in found if not _is_list(path)]


def _is_list(path: Path) -> bool:
    from slipform.preprocess.layouts.list_tables import is_list

    try:
        return is_list(path)
    except SlipformError:  # the reader says what is wrong
        return False


LAYOUT = Layout(
    name="parquet",
    help="Parquet files with the bytes of images",
    find=_find,
    read=_read,
    options=(
        "image_column",
        "label_column",
        "label_separator",
        "split_column",
        "class_names",
        "unlabeled",
    ),
)
