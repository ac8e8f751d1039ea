"""The layouts of images and labels that `prep images` supports.

In: the files of this folder, and a source. Out: the layouts by name, and the one that fits the
source. Nothing is guessed: a source that fits two layouts is an error with the findings and the
option that decides.

A file of this folder without an underscore in its name is a layout: it defines LAYOUT, see
`contract`. At its top it may import only modules that are quick to import, because `prep --help`
imports it.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from slipform.pipelines.errors import ConfigError, DatasetError, nearest, printable
from slipform.preprocess.layouts.contract import Hints, Layout

if TYPE_CHECKING:
    from slipform.preprocess.listing import Listing

__all__ = ["OPTIONS", "discover", "find_layout", "reads_file"]

# The options of `Hints`, by attribute.
OPTIONS = {
    "list_file": "--list",
    "image_column": "--image-column",
    "label_column": "--label-column",
    "label_separator": "--label-separator",
    "split_column": "--split-column",
    "class_columns": "--class-columns",
    "class_names": "--class-names",
    "unlabeled": "--unlabeled",
}
_FOLDERS = ("classes", "splits")  # the labels are the names of folders
_BESIDE = "beside the folder of the images"


@cache
def discover() -> dict[str, Layout]:
    """The layouts by name."""
    package = importlib.import_module("slipform.preprocess.layouts")
    names = [found.name for found in pkgutil.iter_modules(package.__path__)]
    modules = (
        importlib.import_module(f"slipform.preprocess.layouts.{name}")
        for name in names
        if "_" not in name and name != "contract"
    )
    return {module.LAYOUT.name: module.LAYOUT for module in modules}


def reads_file(file: Path, wanted: str, hints: Hints) -> bool:
    """Whether a file is read as it is: a list, Parquet, a tar with samples.

    Args:
        file: A file.
        wanted: Value of --layout.
        hints: What the options say.

    Returns:
        False: the file is an archive, to be unpacked first.
    """
    return any(layout.find(file, hints).words for layout in _possible(wanted, hints))


def find_layout(source: Path, wanted: str, hints: Hints, listing: Listing) -> tuple[Layout, Path]:
    """Find the layout of a source. Archives may put other folders around it.

    Args:
        source: A folder or file.
        wanted: Value of --layout: "auto" or the name of a layout.
        hints: What the options say.
        listing: Entries beside the folder that has the layout are noted in it.

    Returns:
        The layout, and the folder or file that has it.

    Raises:
        ConfigError: An option has no effect with this layout.
        DatasetError: The source fits several layouts, none, or not the one that is wanted.
    """
    possible = _possible(wanted, hints)
    beside, doubts = list[tuple[str, str]](), list[str]()
    place = source
    while True:
        found = {layout: layout.find(place, hints) for layout in possible}
        doubts += [doubt for finding in found.values() for doubt in finding.doubts]
        found = {layout: finding for layout, finding in found.items() if finding.words}
        inside = _only_folder(place)
        if found or inside is None:
            break
        beside += [
            (os.path.relpath(place / name, source) + "/" * (place / name).is_dir(), _BESIDE)
            for name in sorted(os.listdir(place))
            if name != inside
        ]
        place /= inside
    others = [layout for layout in found if layout.name not in _FOLDERS]
    if not others:
        chosen, place = _of_folders(source, wanted, possible, hints, doubts, listing)
    else:
        chosen = next((layout for layout in others if layout.specific), others[0])
        listing.left_out += beside
        if len(found) > 1 and not chosen.specific:
            held = " and ".join(f"{found[one].words} (--layout {one.name})" for one in found)
            raise DatasetError(f"{place} holds {held}. Name the one that gives the labels.")
    listing.notes += [] if chosen.specific else doubts
    _check_options(chosen, source, hints)
    return chosen, place


def _check_options(layout: Layout, source: Path, hints: Hints, why: str = "") -> None:
    """Refuse options that this layout does not read. `why`: why it is no other layout."""
    for name, value in hints.given.items():
        if name not in layout.options:
            raise ConfigError(
                f"{OPTIONS[name]} {value} has no effect: {source} is read as {layout.help}"
                f" (--layout {layout.name})."
                + (why or " Leave it out, or name the list: --list FILE")
            )


def _possible(wanted: str, hints: Hints) -> list[Layout]:
    """The layouts that the options allow."""
    known = discover()
    if wanted == "auto" and (hints.list_file or hints.class_columns):
        wanted = "list"
    return list(known.values()) if wanted == "auto" else [known[wanted]]


def _only_folder(place: Path) -> str | None:
    """The only folder in a folder, if it cannot be a split."""
    from slipform.preprocess.class_folders import image_folders
    from slipform.preprocess.splits import canonical

    if not place.is_dir():
        return None
    try:
        inside = image_folders(place)
    except DatasetError:
        return None
    return inside[0] if len(inside) == 1 and not canonical(inside[0]) else None


def _of_folders(
    source: Path,
    wanted: str,
    possible: list[Layout],
    hints: Hints,
    doubts: list[str],
    listing: Listing,
) -> tuple[Layout, Path]:
    """The layout of a source whose labels are the names of folders."""
    from slipform.preprocess.layouts.folder_roles import decide, single_folder

    why = "".join(f" {doubt}" for doubt in doubts)
    if possible[0].name not in _FOLDERS and len(possible) == 1:
        expected = _expected(source, hints)
        if wanted != "auto" and not expected:
            expected = "Without --layout, prep finds the layout."
        raise DatasetError(f"{source} holds no {possible[0].help}. {expected}{why}".rstrip())
    _check_options(discover()["classes" if wanted == "auto" else wanted], source, hints, why)
    others = " Or a list (CSV, TSV, JSONL), Parquet files, WebDataset tars, or ImageNet with lists."
    try:
        root = single_folder(source, listing)
        others = ""
        return discover()[decide(root) if wanted == "auto" else wanted], root
    except DatasetError as error:
        message = error.message if error.message.endswith(".") else f"{error.message}."
        raise DatasetError(f"{message}{others}{why}") from None


def _expected(source: Path, hints: Hints) -> str:
    """The given options, as text, and a file with a name similar to that of the list."""
    from slipform.preprocess.layouts.source_files import split_folders

    words = [f"{OPTIONS[name]} {value} was given." for name, value in hints.given.items()]
    if hints.list_file and source.is_dir() and not (source / hints.list_file).is_file():
        words.insert(
            1, f"{source / hints.list_file} does not exist; the list must be in the source."
        )
        folders = split_folders(source)
        inside = (f"{folder}/{name}" for folder in folders for name in os.listdir(source / folder))
        words[1] += nearest(hints.list_file, map(printable, [*os.listdir(source), *inside]))
    return " ".join(words)
