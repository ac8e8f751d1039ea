"""Folders of splits: train/, val/ and test/, in each one folder per class.

In: a folder with train/, and perhaps val/ and test/. Out: the samples by split, whose classes are
the names of the inner folders.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from slipform.preprocess.layouts.contract import Divided, Finding, Hints, Layout

if TYPE_CHECKING:
    from slipform.preprocess.listing import Listing

__all__ = ["LAYOUT"]


def _find(place: Path, hints: Hints) -> Finding:
    """A folder of train with folders of images."""
    from slipform.preprocess.layouts.folder_roles import split_folder

    found = split_folder(place)
    return Finding(f"{found}/ with folders of images" if found else "")


def _read(place: Path, hints: Hints, listing: Listing) -> Divided:
    from slipform.preprocess.layouts.folder_roles import read_folders

    return read_folders(place, "splits", listing)


LAYOUT = Layout(
    name="splits",
    help="train/, val/ and test/ with one folder per class",
    find=_find,
    read=_read,
)
