"""Folders of images, one folder per class.

In: a folder. Out: the names of its class folders, sorted, and `Files` in a fixed order: by class,
then by name. Entries that are left out are noted in a `Listing` with the reason.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from slipform.pipelines.decoding.image_file import ENDINGS, looks_like_image, read_head
from slipform.pipelines.errors import DatasetError, printable
from slipform.preprocess.listing import Listing
from slipform.preprocess.source import Files

__all__ = [
    "all_images",
    "holds_image",
    "image_folders",
    "leave_out_folder",
    "list_images",
    "locate",
    "readable",
]

# Systems, network drives and archivers make these folders. They are never classes.
_SYSTEM_FOLDERS = {
    "__macosx",
    "@eadir",
    "#recycle",
    "@recycle",
    "$recycle.bin",
    "lost+found",
    "system volume information",
    "__pycache__",
}
_USUAL_ENDING = re.compile(r"\.[a-z][a-z0-9]{0,4}")


def image_folders(root: Path, listing: Listing | None = None) -> list[str]:
    """The folders in a folder, without hidden ones and those that operating systems create.

    Args:
        root: The folder.
        listing: The folders that are left out are noted in it.

    Returns:
        Their names, sorted, as the file system gives them.

    Raises:
        DatasetError: There are none.
    """
    listing = listing if listing is not None else Listing()
    names = []
    for entry in sorted(os.scandir(root), key=lambda entry: entry.name):
        if _is_folder(entry):
            if reason := _no_class(entry.name):
                listing.leave_out(f"{entry.name}/", reason)
            else:
                names.append(entry.name)
    if not names:
        raise DatasetError(f"{root} holds no folders; expected one folder of images per class.")
    return names


def list_images(
    root: Path,
    folders: Sequence[str | Sequence[str]],
    deep: bool = True,
    listing: Listing | None = None,
) -> Files:
    """List the images of classes.

    Args:
        root: A folder.
        folders: For each class its folder below `root`, or several folders.
        deep: True: images at any depth. False: only those directly in the folders.
        listing: Files that are left out and links that are followed are noted in it.

    Returns:
        The files. Labels are positions in `folders`.

    Raises:
        DatasetError: There is no image in the folders.
    """
    listing = listing if listing is not None else Listing()
    paths: list[str] = []
    counts: list[int] = []
    for names in folders:
        several = [names] if isinstance(names, str) else names
        found = sorted(path for name in several for path in _images(root, name, deep, listing))
        paths += found
        counts.append(len(found))
    if not paths:
        raise DatasetError(f"{root} holds no images in its folders ({', '.join(ENDINGS)}).")
    return Files(root, paths, np.repeat(np.arange(len(folders), dtype=np.int64), counts))


def holds_image(root: Path, folder: str) -> bool:
    """Whether there is an image in a folder, at any depth.

    Args:
        root: A folder.
        folder: A folder below it.
    """
    return next(_images(root, folder, True, Listing()), None) is not None


def all_images(root: Path, listing: Listing) -> list[str]:
    """List all images of a folder.

    Args:
        root: The folder.
        listing: Files that are left out and links that are followed are noted in it.

    Returns:
        Their paths below the folder, at any depth, sorted.
    """
    return sorted(_images(root, ".", True, listing))


def leave_out_folder(root: Path, folder: str, reason: str, listing: Listing) -> None:
    """Note that a folder and each image in it are left out.

    Args:
        root: A folder.
        folder: A folder below it.
        reason: Why, in words.
        listing: They are noted in it.
    """
    inside = Listing()
    listing.leave_out(f"{folder}/", reason)
    for path in sorted(_images(root, folder, True, inside)):
        listing.leave_out(path, f"in a {reason}" if reason.startswith("folder") else reason)
    listing.left_out += inside.left_out


def readable(name: str) -> str:
    """A name of the file system as text.

    Args:
        name: As Python gives it.

    Returns:
        The name. Bytes that are not UTF-8 are escaped as \\xNN.
    """
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def locate(source: Path, name: str, depth: int = 3) -> Path | None:
    """Find an entry by name. Archives and torchvision put files into folders of their own.

    Args:
        source: The folder where the search begins.
        name: Name of the entry.
        depth: How many levels of folders below `source` are searched.

    Returns:
        The path of the entry at the highest level. None: it was not found.
    """
    level = [source]
    for _ in range(depth + 1):
        for folder in level:
            if (folder / name).exists():
                return folder / name
        level = sorted(
            Path(entry.path)
            for folder in level
            for entry in os.scandir(folder)
            if entry.is_dir(follow_symlinks=False)
        )
        if len(level) > 2000:  # these are class folders, not folders of an archive
            return None
    return None


def _no_class(name: str) -> str:
    """The reason why a folder of this name is left out. "": it is used."""
    if name.lower() in _SYSTEM_FOLDERS:
        return "created by the operating system, not a class"
    return "hidden folder" if name.startswith(".") else ""


def _images(root: Path, folder: str, deep: bool, listing: Listing) -> Iterator[str]:
    """Paths below `root`, in no order. Linked folders are followed, each once.

    Links to a parent of the folder are not followed: the parent holds the other classes.
    """
    waiting, seen = [folder], set()
    own = root / folder  # it may be a link, too
    around = {_place(path) for path in (*own.resolve().parents, *own.absolute().parents)}
    while waiting:
        folder = waiting.pop()
        if (place := _place(root / folder)) in around:
            listing.leave_out(f"{folder}/", "link to a parent folder")
            continue
        if place in seen:
            listing.leave_out(f"{folder}/", "linked folder that was read before")
            continue
        seen.add(place)
        with os.scandir(root / folder) as entries:
            for entry in entries:
                path = entry.name if folder == "." else f"{folder}/{entry.name}"
                if not _is_folder(entry):
                    if reason := _no_image(entry):
                        listing.leave_out(path, reason)
                    else:
                        listing.used[_ending(entry.name) or "no ending"] += 1
                        yield path
                elif reason := _no_class(entry.name):
                    listing.leave_out(f"{path}/", reason)
                elif not deep:
                    listing.leave_out(f"{path}/", "folder in a folder of images")
                else:
                    if entry.is_symlink():
                        listing.linked.append(path)
                    waiting.append(path)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder. A link that leads to itself is a file that cannot be read."""
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        return False


def _place(folder: Path) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _ending(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _no_image(entry: os.DirEntry[str]) -> str:
    """The reason why a file is not an image. "": it is one. Unusual endings are allowed."""
    if entry.name.startswith("."):
        return "hidden file"
    ending = _ending(entry.name)
    if ending in ENDINGS:
        return ""
    if _USUAL_ENDING.fullmatch(ending):
        return f"its ending is not that of an image ({printable(ending)})"
    return "" if looks_like_image(read_head(entry.path)) else "its content is not an image"
