"""A list of images: CSV, TSV, JSONL or Parquet with columns for path, label or labels, and split.

In: a folder with the images and one list, or one list per split (train.csv, test.csv), or Hugging
Face's imagefolder (metadata.csv, .jsonl or .parquet, in the folder or in train/ and test/). Out:
the rows of the lists. Source of the last: huggingface.co/docs/datasets/image_dataset.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from slipform.pipelines.errors import DatasetError, SlipformError, printable
from slipform.preprocess.layouts.contract import Divided, Finding, Hints, Layout

if TYPE_CHECKING:
    from slipform.preprocess.layouts.label_names import Label
    from slipform.preprocess.layouts.list_columns import Columns
    from slipform.preprocess.listing import Listing

__all__ = ["LAYOUT"]

_LOOKED_AT = 5  # rows that decide whether a table is a list of images
_MAX_PATH = 4096  # bytes, of Linux


def _find(place: Path, hints: Hints) -> Finding:
    """The lists, if the first rows of each name images that exist."""
    from slipform.preprocess.layouts.source_files import folder_of

    found, doubts = _lists(place, hints)
    named = (
        f"{printable(str(path.relative_to(folder_of(place))))} (columns {columns})"
        for path, columns in found.items()
    )
    return Finding(f"a list of images, {', '.join(named)}" if found else "", doubts)


def _read(place: Path, hints: Hints, listing: Listing) -> Divided:
    from slipform.preprocess.class_folders import all_images
    from slipform.preprocess.layouts.class_names import find_class_names
    from slipform.preprocess.layouts.label_rows import Rows, divide_rows
    from slipform.preprocess.layouts.list_rows import read_lists
    from slipform.preprocess.layouts.listed_files import Listed, match_images
    from slipform.preprocess.layouts.source_files import folder_of
    from slipform.preprocess.splits import split_of_path

    (lists, _), folder = _lists(place, hints), folder_of(place)
    words = dict.fromkeys(lists, "")
    if place.is_dir():
        words = {path: split_of_path(str(path.relative_to(folder))) for path in lists}
    if len(lists) > 1 and not all(words.values()):
        named = ", ".join(printable(path.name) for path in lists)
        likely = max(lists, key=lambda path: words[path] == "train")
        raise DatasetError(
            f"{place} holds {len(lists)} lists: {named}. Choose one: --list"
            f" {printable(likely.name)}"
        )
    written = read_lists(lists, words, folder, hints, listing)
    entries, labels, splits = written.entries, written.labels, written.splits
    images = all_images(folder, listing)
    listing.use(*(str(path.relative_to(folder)) for path in lists))
    paths = match_images(entries, images, splits, place)
    rule = "splits of the list"
    by_list = any(splits)
    splits = splits if by_list else _splits_of_folders(paths)
    marks = {name: None for columns in lists.values() for name in columns.marks}
    if written.marked and (by_list or not any(splits)):
        splits, rule = written.marked, f"splits of the list by {printable(', '.join(marks))}"
        marks = {}
    for image in sorted({*images} - {*paths}):
        listing.leave_out_image(image, "image that no list names")
    names = written.classes
    if names is None:
        names = find_class_names(folder, hints.class_names, labels, listing)
    listing.layout = "list of images: " + ", ".join(
        f"{printable(str(path.relative_to(folder)))} ({columns})" for path, columns in lists.items()
    )
    _note_unused(lists, marks, listing)
    keeps_blank = hints.unlabeled == "background"
    kept = _without_repeats(entries, paths, labels, splits, listing, keeps_blank=keeps_blank)
    rows = Rows(
        Listed(folder, [entries[i][1] for i in kept], [paths[i] for i in kept]),
        [labels[i] for i in kept],
        [splits[i] for i in kept],
        names,
        rule if any(splits) else "",
    )
    return divide_rows(rows, place, listing, hints)


def _note_unused(lists: Mapping[Path, Columns], marks: Iterable[str], listing: Listing) -> None:
    """Note the columns that are not used: those of `marks`, and those that have no meaning."""
    from slipform.preprocess.layouts.list_tables import columns
    from slipform.preprocess.listing import some

    unused = dict.fromkeys(
        name
        for path, chosen in lists.items()
        for name in columns(path)
        if name.strip() and (name in marks or name not in chosen.names)
    )
    if unused:
        listing.notes.append(f"columns not used: {some([*unused])}")


def _lists(place: Path, hints: Hints) -> tuple[dict[Path, Columns], list[str]]:
    """The lists in a folder and its folders of splits, with their columns; and for each other table
    why it is none."""
    from slipform.preprocess.layouts.list_columns import advice, choose_columns
    from slipform.preprocess.layouts.list_tables import ENDINGS, columns, is_list
    from slipform.preprocess.layouts.source_files import find_files, folder_of, split_folders

    certain = bool(hints.list_file or place.is_file())
    if hints.list_file:
        path = folder_of(place) / hints.list_file
        inside = place in (path, *path.parents) and ".." not in Path(hints.list_file).parts
        paths = [path] if inside and path.is_file() else []
    else:
        paths = find_files(place, ENDINGS, split_folders(place))
    found: dict[Path, Columns] = {}
    doubts: list[str] = []
    for path in paths:
        try:
            if not hints.list_file and not is_list(path):
                continue
            names = columns(path)
            chosen = choose_columns(names, hints, path)
        except SlipformError as error:  # a package for such tables may be missing
            if certain:
                raise
            doubts.append(f"{path} is not used as a list of images: {error.message}")
            continue
        if certain and not names:
            raise DatasetError(f"{path} holds no row.")
        if chosen is None:
            words = f"{path} has the columns {', '.join(map(printable, names))}."
            if certain:
                raise DatasetError(f"{words} {advice(names, hints)}.")
            doubts.append(f"{words} It is not used as a list of images. {advice(names, hints)}.")
        elif certain or _names_images(path, chosen, place):
            found[path] = chosen
        else:
            doubts.append(
                f"{path} is not used as a list of images: its first {_LOOKED_AT} rows name no image"
                f" of the source in the column {printable(chosen.image)}."
            )
    return found, doubts


def _names_images(path: Path, columns: Columns, place: Path) -> bool:
    """Whether the first rows of a table name images below the folder."""
    from itertools import islice

    from slipform.pipelines.decoding.image_file import ENDINGS
    from slipform.preprocess.class_folders import all_images
    from slipform.preprocess.layouts.list_columns import text_of
    from slipform.preprocess.layouts.list_tables import read_rows
    from slipform.preprocess.layouts.listed_files import names_any
    from slipform.preprocess.listing import Listing

    folders = [path.parent, *(place / name for name in sorted(os.listdir(place))[:50])]
    try:
        rows = list(islice(read_rows(path, [columns.image]), _LOOKED_AT))
    except DatasetError as error:
        raise DatasetError(
            f"{error.message} If it is no list of images, name the layout: --layout"
        ) from None
    entries = []
    for row in rows:
        try:
            entry = text_of(row.get(columns.image))
        except ValueError:
            continue
        parts = re.split(r"[/\\]", entry)
        if len(entry) > _MAX_PATH or ".." in parts or not parts[-1]:
            continue
        for start in range(len(parts)):
            tail = "/".join(parts[start:])
            for folder in folders:
                if any(os.path.isfile(f"{folder}/{tail}{ending}") for ending in ("", *ENDINGS)):
                    return True
        entries.append(entry)
    # Deeper folders are listed only if nothing was found above.
    return bool(entries) and names_any(entries, all_images(place, Listing()))


def _splits_of_folders(paths: list[str]) -> list[str]:
    """The split of each image, from the first folder of its path, if all images have one."""
    from slipform.preprocess.splits import canonical

    found = [canonical(path.split("/", 1)[0]) if "/" in path else "" for path in paths]
    missing = (not split for split, path in zip(found, paths, strict=True) if path)
    return [""] * len(paths) if any(missing) or "train" not in found else found


def _without_repeats(
    entries: list[tuple[str, str]],
    paths: list[str],
    labels: Sequence[Label],
    splits: list[str],
    listing: Listing,
    *,
    keeps_blank: bool,
) -> list[int]:
    """The rows without repeated ones. An image with two labels is an error."""
    from slipform.preprocess.layouts.label_names import is_blank

    first: dict[tuple[str, str], int] = {}
    seen: dict[str, int] = {}
    kept = []
    for index, path in enumerate(paths):
        if not path or (is_blank(labels[index]) and not keeps_blank):
            kept.append(index)
            continue
        other = first.setdefault((path, splits[index]), index)
        before = labels[seen.setdefault(path, index)]
        if before != labels[index]:
            raise DatasetError(
                f"the list names {printable(path)} with the labels {printable(str(before))}"
                f" and {printable(str(labels[index]))}. Write one row per image; several labels"
                ' stand in one column, "labels", divided by ;'
            )
        if other == index:
            kept.append(index)
        else:
            listing.leave_out(entries[index][1], "row that repeats another row")
    twice = len(first) - len(seen)
    if twice:
        listing.notes.append(f"{twice:,} images are in two splits of the list.")
    return kept


LAYOUT = Layout(
    name="list",
    help="list of images (CSV, TSV, JSONL, metadata.parquet with columns for image, label, split)",
    find=_find,
    read=_read,
    options=(
        "list_file",
        "image_column",
        "label_column",
        "label_separator",
        "split_column",
        "class_columns",
        "class_names",
        "unlabeled",
    ),
)
