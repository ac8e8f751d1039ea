"""ImageNet as it is downloaded: folders named after synsets, and a list for the validation images.

In: train/n01440764/*.JPEG, val/*.JPEG in one folder or in folders of synsets, the names of the
synsets, and a list of the validation labels. Out: the rows, classes in the order of the synsets.
The layouts of image-net.org, Kaggle and Tiny ImageNet are supported.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from slipform.pipelines.errors import DatasetError, printable
from slipform.preprocess.layouts.contract import Divided, Finding, Hints, Layout

if TYPE_CHECKING:
    from slipform.preprocess.listing import Listing

__all__ = ["LAYOUT"]

_SYNSET = re.compile(r"n\d{8}")
_FOLDERS = ("", "Data/CLS-LOC/", "ILSVRC/Data/CLS-LOC/", "ILSVRC2012_img_")
_SHOWN = 5


def _find(place: Path, hints: Hints) -> Finding:
    """Folders of synsets in train/, with a file of their names or a list of val."""
    from slipform.preprocess.layouts.synset_lists import NAMES, VAL_LISTS, find_lists

    train = _folder(place, "train")
    if train is None or not any(_SYNSET.fullmatch(name) for name in os.listdir(train)):
        return Finding()
    found = find_lists(place, (*NAMES, *VAL_LISTS))
    listed = ", ".join(path.name for path in found)
    return Finding(f"folders of ImageNet's synsets, and {listed}" if found else "")


def _read(place: Path, hints: Hints, listing: Listing) -> Divided:
    from slipform.preprocess.class_folders import all_images
    from slipform.preprocess.layouts.label_rows import Rows, divide_rows
    from slipform.preprocess.layouts.listed_files import Listed
    from slipform.preprocess.layouts.synset_lists import class_names, read_names, read_val

    train, val = _folder(place, "train"), _folder(place, "val")
    assert train is not None, "it was found"
    images = all_images(place, listing)
    below = {folder: f"{folder.relative_to(place)}/" for folder in (train, val) if folder}
    of_train = [path for path in images if path.startswith(below[train])]
    of_val = [path for path in images if val and path.startswith(below[val])]
    labels = {path: _synset(path) for path in [*of_train, *of_val]}
    flat = [path for path in of_val if not labels[path]]
    synsets = sorted({labels[path] for path in of_train} - {""})
    known = read_names(place)
    names = class_names(synsets, known.names)
    name = dict(zip(synsets, names, strict=True))
    lists = [known.path] if known.path else []
    if flat:
        answers = read_val(place, flat)
        labels |= answers.labels
        lists += answers.paths
    splits = dict.fromkeys(of_train, "train") | dict.fromkeys(of_val, "val")
    for path in images:
        label = labels.get(path, "")
        if label in name:
            continue
        reason = "not in train/ or val/" if path not in splits else "its synset is unknown"
        if label:
            reason = f"its synset, {printable(label)}, has no image in train"
        listing.leave_out_image(path, reason)
    listing.use(*(str(path.relative_to(place)) for path in lists))
    listing.layout = "ImageNet: folders of synsets" + "".join(f", {path.name}" for path in lists)
    kept = [path for path in splits if labels[path] in name]
    if not any(splits[path] == "train" for path in kept):
        raise DatasetError(f"{train} holds no images in folders of synsets (n01440764).")
    if missing := [synset for synset in synsets if synset not in known.names]:
        listing.notes.append(
            f"{len(missing):,} synsets have no name and keep their number:"
            f" {', '.join(missing[:_SHOWN])}"
        )
    rows = Rows(
        Listed(place, kept, kept),
        [name[labels[path]] for path in kept],
        [splits[path] for path in kept],
        names,
        "by folders train" + (", val" if of_val else ""),
    )
    return divide_rows(rows, place, listing)


def _folder(place: Path, split: str) -> Path | None:
    """The folder of a split."""
    found = (place / f"{before}{split}" for before in _FOLDERS)
    return next((folder for folder in found if folder.is_dir()), None)


def _synset(path: str) -> str:
    """The innermost folder of a path that is named after a synset. "": there is none."""
    folders = reversed(path.split("/")[:-1])
    return next((name for name in folders if _SYNSET.fullmatch(name)), "")


LAYOUT = Layout(
    name="imagenet",
    help="folders of ImageNet's synsets with their names and the list of val",
    find=_find,
    read=_read,
    specific=True,
)
