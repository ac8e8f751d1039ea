"""A list of images: CSV, TSV or JSONL with columns for path, label or labels, and split.

In: a folder with the images and one list, or one list per split (train.csv, test.csv), or Hugging
Face's imagefolder (metadata.csv or metadata.jsonl, in the folder or in train/ and test/). Out: the
rows of the lists. Source of the last: huggingface.co/docs/datasets/image_dataset.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from slipform.pipelines.errors import DatasetError, printable
from slipform.preprocess.layouts.contract import Divided, Hints, Layout

if TYPE_CHECKING:
    from slipform.preprocess.layouts.list_columns import Columns
    from slipform.preprocess.listing import Listing

__all__ = ["LAYOUT"]

_LOOKED_AT = 5  # rows that decide whether a table is a list of images


def _find(place: Path, hints: Hints) -> str:
    """The lists, if the first rows of each name images that exist."""
    from slipform.preprocess.layouts.source_files import folder_of

    try:
        found = _lists(place, hints)
    except DatasetError:
        if hints.list_file:
            raise
        return ""
    named = (
        f"{printable(str(path.relative_to(folder_of(place))))} (columns {printable(c.image)},"
        f" {printable(c.label)})"
        for path, c in found.items()
    )
    return f"a list of images, {', '.join(named)}" if found else ""


def _read(place: Path, hints: Hints, listing: Listing) -> Divided:
    from slipform.preprocess.class_folders import all_images
    from slipform.preprocess.layouts.class_names import find_class_names
    from slipform.preprocess.layouts.label_rows import Label, Rows, divide_rows
    from slipform.preprocess.layouts.list_columns import as_label
    from slipform.preprocess.layouts.listed_files import Listed, match_images
    from slipform.preprocess.layouts.source_files import folder_of
    from slipform.preprocess.layouts.text_tables import read_rows
    from slipform.preprocess.splits import split_of_path

    lists, folder = _lists(place, hints), folder_of(place)
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
    entries: list[tuple[str, str]] = []
    labels: list[Label] = []
    splits: list[str] = []
    for path, columns in lists.items():
        below = str(path.parent.relative_to(folder))
        for number, row in enumerate(read_rows(path), 1):
            try:
                labels.append(as_label(row.get(columns.label), columns.label))
            except ValueError as error:
                raise DatasetError(f"{path}, row {number}: {error}.") from None
            entries.append((below, str(row.get(columns.image) or "").strip()))
            splits.append(str(row.get(columns.split) or "") if columns.split else words[path])
    images = all_images(folder, listing)
    for path in lists:
        _used(listing, str(path.relative_to(folder)))
    paths = match_images(entries, images, splits, place)
    splits = splits if any(splits) else _splits_of_folders(paths)
    _note_unlisted(listing, images, paths)
    names = find_class_names(folder, hints.class_names, labels, listing)
    listing.layout = "list of images: " + ", ".join(
        f"{printable(str(path.relative_to(folder)))} ({', '.join(filter(None, vars(c).values()))})"
        for path, c in lists.items()
    )
    kept = _without_repeats(entries, paths, labels, splits, listing)
    rows = Rows(
        Listed(folder, [entries[i][1] for i in kept], [paths[i] for i in kept]),
        [labels[i] for i in kept],
        [splits[i] for i in kept],
        names,
        "splits of the list" if any(splits) else "",
    )
    return divide_rows(rows, place, listing)


def _lists(place: Path, hints: Hints) -> dict[Path, Columns]:
    """The lists in a folder and its folders of splits, with their columns."""
    from slipform.preprocess.layouts.list_columns import choose_columns
    from slipform.preprocess.layouts.source_files import find_files, folder_of, split_folders
    from slipform.preprocess.layouts.text_tables import ENDINGS, columns

    if hints.list_file:
        paths = [folder_of(place) / hints.list_file]
        if not paths[0].is_file():
            return {}
    else:
        paths = find_files(place, ENDINGS, split_folders(place))
    certain = bool(hints.list_file or place.is_file())
    wanted = {hints.image_column, hints.label_column, hints.split_column} - {""}
    found = {}
    for path in paths:
        names = columns(path)
        if not certain and not wanted <= {*names}:
            continue
        chosen = choose_columns(names, hints, path)
        if certain and not names:
            raise DatasetError(f"{path} holds no row.")
        if certain and chosen is None:
            raise DatasetError(
                f"{path} has the columns {', '.join(map(printable, names))}. Name those of the"
                " images and labels with --image-column and --label-column."
            )
        if chosen and (certain or _names_images(path, chosen, place)):
            found[path] = chosen
    return found


def _names_images(path: Path, columns: Columns, place: Path) -> bool:
    """Whether the first rows of a table name images below the folder."""
    from itertools import islice

    from slipform.pipelines.decoding.image_file import ENDINGS
    from slipform.preprocess.layouts.text_tables import read_rows

    folders = [path.parent, *(place / name for name in sorted(os.listdir(place))[:50])]
    for row in islice(read_rows(path), _LOOKED_AT):
        parts = re.split(r"[/\\]", str(row.get(columns.image) or "").strip())
        if ".." in parts or not parts[-1]:
            continue
        for start in range(len(parts)):
            tail = "/".join(parts[start:])
            for folder in folders:
                if any(os.path.isfile(f"{folder}/{tail}{ending}") for ending in ("", *ENDINGS)):
                    return True
    return False


def _splits_of_folders(paths: list[str]) -> list[str]:
    """The split of each image, from the first folder of its path, if all images have one."""
    from slipform.preprocess.splits import canonical

    found = [canonical(path.split("/", 1)[0]) if "/" in path else "" for path in paths]
    missing = (not split for split, path in zip(found, paths, strict=True) if path)
    return [""] * len(paths) if any(missing) or "train" not in found else found


def _used(listing: Listing, path: str) -> None:
    """Note that a list is used, although it is not an image."""
    listing.left_out = [entry for entry in listing.left_out if entry[0] != path]


def _note_unlisted(listing: Listing, images: list[str], paths: list[str]) -> None:
    for path in sorted({*images} - {*paths}):
        listing.leave_out(path, "image that no list names")
        ending = os.path.splitext(path)[1].lower() or "no ending"
        listing.used[ending] -= 1
    listing.used = +listing.used


def _without_repeats(
    entries: list[tuple[str, str]],
    paths: list[str],
    labels: Sequence[object],
    splits: list[str],
    listing: Listing,
) -> list[int]:
    """The rows without repeated ones. An image with two labels is an error."""
    first: dict[tuple[str, str], int] = {}
    seen: dict[str, int] = {}
    kept = []
    for index, path in enumerate(paths):
        if not path or labels[index] in (None, ""):
            kept.append(index)
            continue
        other = first.setdefault((path, splits[index]), index)
        if labels[other] != labels[index] or labels[seen.setdefault(path, index)] != labels[index]:
            raise DatasetError(
                f"the list names {printable(path)} with the labels {printable(str(labels[other]))}"
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
    help="list of images (CSV, TSV, JSONL with columns for image, label, split)",
    find=_find,
    read=_read,
    options=("list_file", "image_column", "label_column", "split_column", "class_names"),
)
