"""Parquet files with the bytes of images, as the Hugging Face hub stores datasets of images.

In: a folder with Parquet files, named after their split (train-00000-of-00002.parquet) or in
folders of splits, or one file. A column holds the image: its bytes, or {bytes, path}. Out: the
rows. Names of classes come from the schema's metadata (ClassLabel). It needs pyarrow.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from slipform.pipelines.errors import printable
from slipform.preprocess.find_layout import Hints, Layout

if TYPE_CHECKING:
    from slipform.preprocess.listing import Listing
    from slipform.preprocess.rows import Rows

__all__ = ["LAYOUT"]

_ENDINGS = (".parquet", ".pq")
_MAX_FOLDERS = 50  # more are folders of classes, and would take long to list


def _find(place: Path, hints: Hints) -> str:
    """The Parquet files, by their ending."""
    found = _files(place)
    shown = ", ".join(printable(path.name) for path in found[:3])
    return f"{len(found)} Parquet files, {shown}" if found else ""


def _read(place: Path, hints: Hints, listing: Listing) -> Rows:
    from slipform.preprocess.parquet_rows import read_parquet
    from slipform.preprocess.splits import split_of_path

    files = _files(place)
    folder = place.parent if place.is_file() else place
    paths = [str(path.relative_to(folder)) for path in files]
    # The name of a single file says which part of a dataset it is, not what is wanted from it.
    rows = read_parquet(folder, paths, hints, split_of_path if place.is_dir() else lambda path: "")
    listing.layout = f"{len(files)} Parquet files ({rows.rule})"
    listing.used[".parquet"] = len(rows.labels)
    if place.is_dir():
        used = {*files}
        for path in sorted(path for path in place.rglob("*") if path.is_file()):
            if path not in used:
                listing.leave_out(str(path.relative_to(place)), "file beside the Parquet files")
    rows.rule = "splits by the names of files" if any(rows.splits) else ""
    return rows


def _files(place: Path) -> list[Path]:
    """The Parquet files in a folder and in its folders, sorted."""
    if place.is_file():
        return [place] if place.name.lower().endswith(_ENDINGS) else []
    names = [name for name in sorted(os.listdir(place)) if not name.startswith(".")]
    inside = [place / name for name in names if (place / name).is_dir()]
    folders = [place, *(inside if len(inside) <= _MAX_FOLDERS else [])]
    return [
        folder / name
        for folder in folders
        for name in sorted(os.listdir(folder))
        if name.lower().endswith(_ENDINGS) and not name.startswith(".")
    ]


LAYOUT = Layout(
    name="parquet",
    help="Parquet files with the bytes of images",
    find=_find,
    read=_read,
)
