"""The files of a source that a layout reads, and those beside them.

In: a folder or file. Out: the paths of regular files.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from slipform.preprocess.listing import Listing
from slipform.preprocess.splits import canonical

__all__ = ["find_files", "folder_of", "note_others", "split_folders", "visible"]


def folder_of(place: Path) -> Path:
    """The folder of a source.

    Args:
        place: A folder, or a file.

    Returns:
        The folder, or the one that holds the file.
    """
    return place if place.is_dir() else place.parent


def visible(folder: Path) -> list[str]:
    """The names of the entries of a folder that are not hidden, sorted.

    Args:
        folder: The folder. A file has no entries.
    """
    names = sorted(os.listdir(folder)) if folder.is_dir() else []
    return [name for name in names if not name.startswith(".")]


def split_folders(folder: Path) -> list[str]:
    """The names of the folders of splits in a folder, sorted.

    Args:
        folder: The folder. A file has none.
    """
    return [name for name in visible(folder) if canonical(name) and (folder / name).is_dir()]


def find_files(place: Path, endings: tuple[str, ...], folders: Sequence[str]) -> list[Path]:
    """Find regular files by their endings.

    Args:
        place: A folder, or one file.
        endings: The endings, in lower case.
        folders: Names of folders in `place` that are searched, too.

    Returns:
        The paths, sorted in each folder.
    """
    if not place.is_dir():
        return [place] if place.is_file() and place.name.lower().endswith(endings) else []
    return [
        folder / name
        for folder in (place, *(place / name for name in folders))
        for name in visible(folder)
        if name.lower().endswith(endings) and (folder / name).is_file()
    ]


def note_others(place: Path, used: Iterable[Path], reason: str, listing: Listing) -> None:
    """Note every file below a folder that is not used.

    Args:
        place: A folder. A source that is one file has no others.
        used: The files that are used.
        reason: Why the others are left out, in words.
        listing: They are noted in it.
    """
    known = {*used}
    linked = sorted({path.parent for path in known if path.parent.is_symlink()})
    for top in (place, *linked) if place.is_dir() else ():
        for folder, folders, files in os.walk(top):  # it follows no links
            for path in (Path(folder) / name for name in sorted([*files, *folders])):
                link = path.is_symlink() and path.is_dir()
                if (link or not path.is_dir()) and path not in known and path not in linked:
                    listing.leave_out(os.path.relpath(path, place) + "/" * link, reason)
