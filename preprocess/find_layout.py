"""The layouts of images and labels that `prep images` supports.

In: the files of the folder preprocess/layouts. Out: the layouts by name, and the one that fits a
source. Nothing is guessed: a source that fits two layouts is an error with the findings and the
option that decides.

To add a layout, add one file to that folder that defines LAYOUT. At its top it may import only
modules that are quick to import, because `prep --help` imports it.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from slipform.pipelines.errors import DatasetError, nearest, printable

if TYPE_CHECKING:
    from slipform.preprocess.listing import Listing
    from slipform.preprocess.rows import Rows

__all__ = ["Hints", "Layout", "discover", "find_layout"]


@dataclass(frozen=True)
class Hints:
    """The options about a source. An empty text or None: not given.

    Attributes:
        list_file: Name of the list of images.
        image_column: The column with the path or the bytes of an image.
        label_column: The column, or the key of JSON, with the label or labels.
        split_column: The column with the split.
        class_names: A file with one class name per line, in the order of their numbers.
    """

    list_file: str = ""
    image_column: str = ""
    label_column: str = ""
    split_column: str = ""
    class_names: Path | None = None


@dataclass(frozen=True)
class Layout:
    """A way to lay out images and labels.

    Attributes:
        name: Value of --layout.
        help: What it is, in a few words.
        find: find(place, hints) describes the parts of this layout in a folder or file. "": there
            are none. It reads few files.
        read: read(place, hints, listing) reads labels and splits. Files that are not used are noted
            in the listing.
        has_class_folders: Whether such a source also holds one folder per class.
    """

    name: str
    help: str
    find: Callable[[Path, Hints], str]
    read: Callable[[Path, Hints, Listing], Rows]
    has_class_folders: bool = False


@cache
def discover() -> dict[str, Layout]:
    """The layouts of preprocess/layouts by name."""
    package = importlib.import_module("slipform.preprocess.layouts")
    modules = (
        importlib.import_module(f"slipform.preprocess.layouts.{module.name}")
        for module in pkgutil.iter_modules(package.__path__)
    )
    return {module.LAYOUT.name: module.LAYOUT for module in modules}


def find_layout(
    source: Path, wanted: str, hints: Hints, class_folders: Callable[[Path], Sequence[str]]
) -> tuple[Layout, Path] | None:
    """Find the layout of a source. Archives may put other folders around it.

    Args:
        source: A folder or file.
        wanted: Value of --layout: "auto" or the name of a layout.
        hints: What the options say.
        class_folders: Lists the folders below a folder that could be classes, or the splits.

    Returns:
        The layout, and the folder or file that has it. None: there is none of these layouts. The
        source may have one folder per class.

    Raises:
        DatasetError: The source fits several layouts, or not the one that is wanted.
    """
    if wanted == "auto" and hints.list_file:
        wanted = "list"
    known = discover()
    possible = [known[wanted]] if wanted in known else list(known.values())
    place = source
    while True:
        found = {layout: words for layout in possible if (words := layout.find(place, hints))}
        if found:
            break
        inside = [entry for entry in _visible(place) if entry.is_dir()]
        if len(inside) != 1:
            if wanted in known:
                raise DatasetError(
                    f"{source} holds no {known[wanted].help}. {_expected(source, hints)}".rstrip()
                )
            return None
        place = inside[0]
    chosen = next((layout for layout in found if layout.has_class_folders), next(iter(found)))
    held = [f"{text} (--layout {layout.name})" for layout, text in found.items()]
    if wanted == "auto" and not chosen.has_class_folders:
        folders = class_folders(place) if place.is_dir() else []
        if folders:
            named = ", ".join(f"{printable(name)}/" for name in folders[:5])
            more = f" and {len(folders) - 5} more" if len(folders) > 5 else ""
            held.append(f"folders of images, {named}{more} (--layout classes, --layout splits)")
        if len(held) > 1:
            raise DatasetError(
                f"{place} holds {' and '.join(held)}. Name the one that gives the labels."
            )
    return chosen, place


def _visible(place: Path) -> list[Path]:
    """The entries of a folder that are not hidden."""
    if not place.is_dir():
        return []
    return [place / name for name in sorted(os.listdir(place)) if name[0] not in "._@"]


def _expected(source: Path, hints: Hints) -> str:
    """The given options, as text, and a file with a name similar to that of the list."""
    given = {
        "--list": hints.list_file,
        "--image-column": hints.image_column,
        "--label-column": hints.label_column,
        "--split-column": hints.split_column,
    }
    words = [f"{option} {value} was given." for option, value in given.items() if value]
    if hints.list_file and source.is_dir():
        words[0] += nearest(hints.list_file, os.listdir(source))
    return " ".join(words)
