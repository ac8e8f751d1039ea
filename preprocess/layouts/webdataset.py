"""WebDataset: tars in which the files of one sample follow one another, under one name.

In: a folder with tars (train-000000.tar), also in folders of splits, or one tar; they may be
compressed by gzip or zstd. A sample is an image and a label: NAME.jpg with NAME.cls, NAME.json or
NAME.txt. Out: the rows. Nothing is unpacked: images are read directly from the tar. Source:
github.com/webdataset/webdataset.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

from slipform.pipelines.errors import DatasetError, SlipformError, printable
from slipform.pipelines.files import open_regular
from slipform.preprocess.layouts.contract import Divided, Finding, Hints, Layout

if TYPE_CHECKING:
    from slipform.preprocess.listing import Listing

__all__ = ["LAYOUT"]

_LOOKED_AT = 20  # members of the first tar


def _find(place: Path, hints: Hints) -> Finding:
    """The tars, if the first one begins with an image and a label of one name."""
    from slipform.preprocess.archive import tar_members
    from slipform.preprocess.compressed import content
    from slipform.preprocess.layouts.tar_samples import holds_sample

    found = _files(place)
    if not found:
        return Finding()
    first = found[0]
    plain = first.name.lower().endswith(".tar")
    try:
        with open_regular(first, DatasetError) if plain else content(first) as tar:
            members = itertools.islice(tar_members(tar, first), _LOOKED_AT)
            names = [member.name for member in members]
    except SlipformError as error:  # a package for such tars may be missing
        return Finding(doubts=[error.message])
    if not holds_sample(names):
        return Finding(doubts=[f"{found[0]} does not begin with an image and its label."])
    shown = ", ".join(printable(path.name) for path in found[:3])
    return Finding(f"{len(found)} WebDataset tars, {shown}")


def _read(place: Path, hints: Hints, listing: Listing) -> Divided:
    from slipform.preprocess.layouts.class_names import find_class_names
    from slipform.preprocess.layouts.label_rows import divide_rows
    from slipform.preprocess.layouts.source_files import folder_of, note_others
    from slipform.preprocess.layouts.tar_samples import read_tars

    files, folder = _files(place), folder_of(place)
    rows = read_tars(folder, [str(path.relative_to(folder)) for path in files], hints, listing)
    if not rows.labels:
        raise DatasetError(f"{place}: the tars hold no image with a label.")
    listing.layout = f"{len(files)} WebDataset tars"
    note_others(place, files, "file beside the tars", listing)
    rows.classes = find_class_names(folder, hints.class_names, rows.labels, listing)
    if place.is_file():
        rows.splits = [""] * len(rows.labels)
    rows.rule = "splits by the names of tars" if any(rows.splits) else ""
    return divide_rows(rows, place, listing, hints)


def _files(place: Path) -> list[Path]:
    """The tars in a folder and in its folders of splits, sorted."""
    from slipform.preprocess.compressed import COMPRESSED
    from slipform.preprocess.layouts.source_files import find_files, split_folders

    return find_files(place, (".tar", *COMPRESSED), split_folders(place))


LAYOUT = Layout(
    name="webdataset",
    help="WebDataset tars (images with .cls, .json or .txt)",
    find=_find,
    read=_read,
    options=("label_column", "label_separator", "class_names", "unlabeled"),
)
