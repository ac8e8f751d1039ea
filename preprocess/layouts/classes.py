"""One folder per class.

In: a folder with the folders. Out: the samples, whose classes are the names of the folders.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from slipform.preprocess.layouts.contract import Divided, Finding, Hints, Layout

if TYPE_CHECKING:
    from slipform.preprocess.listing import Listing

__all__ = ["LAYOUT"]


def _find(place: Path, hints: Hints) -> Finding:
    """At least two folders of images. One folder is no proof of classes."""
    from slipform.preprocess.layouts.folder_classes import some_folders
    from slipform.preprocess.layouts.folder_roles import class_folders

    found = class_folders(place)
    return Finding(f"folders of images, {some_folders(found)}" if found else "")


def _read(place: Path, hints: Hints, listing: Listing) -> Divided:
    from slipform.preprocess.layouts.folder_roles import read_folders

    return read_folders(place, "classes", listing)


LAYOUT = Layout(
    name="classes",
    help="one folder per class",
    find=_find,
    read=_read,
)
