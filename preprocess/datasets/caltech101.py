"""Caltech-101: 101 classes of objects, about 9,000 JPEGs of about 300 x 200 px.

In: the folder 101_ObjectCategories, alone or with the lists train.txt and test.txt beside it. Out:
a SampleSource without the background class. Source: L. Fei-Fei, R. Fergus, P. Perona, CVPR Workshop
2004; data.caltech.edu/records/mzrjq-6wc02.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slipform.pipelines.errors import DatasetError, printable
from slipform.pipelines.files import open_regular
from slipform.preprocess.registry import DatasetSpec, val_options

if TYPE_CHECKING:
    from slipform.preprocess.source import Files, SampleSource

__all__ = ["DATASETS", "read_list"]

_FOLDER = "101_ObjectCategories"
_BACKGROUND = "BACKGROUND_Google"
_FILES = (
    f"{_FOLDER}/ with one folder per class, or 101_ObjectCategories.tar.gz or caltech-101.zip from"
    " https://data.caltech.edu/records/mzrjq-6wc02"
)


def _read(
    source: Path,
    *,
    split: str,
    per_class_train: int,
    val_split: str,
    val_fraction: float,
    seed: int,
) -> SampleSource:
    """Train and test come from the lists or are chosen at random. Val is taken from train. Labels
    follow the sorted class names."""
    from slipform.preprocess.class_folders import image_folders, list_images
    from slipform.preprocess.listing import Listing
    from slipform.preprocess.source import SampleSource
    from slipform.preprocess.splits import per_class, with_val

    root = _find_root(source)
    listing = Listing(f"{_FOLDER}, one folder per class")
    classes = [name for name in image_folders(root, listing) if name != _BACKGROUND]
    if split == "auto":
        split = "lists" if (root.parent / "train.txt").is_file() else "random"
    if split == "lists":
        train = read_list(root, root.parent / "train.txt", classes)
        test = read_list(root, root.parent / "test.txt", classes)
        if both := set(train.paths) & set(test.paths):
            raise DatasetError(
                f"{len(both)} images are in train.txt and in test.txt, for one"
                f" {printable(min(both))}."
            )
        rule = "train.txt and test.txt without the background class"
    else:
        every = list_images(root, classes, deep=False, listing=listing)
        chosen, rest = per_class(every.labels, per_class_train, seed)
        train, test = every.subset(chosen), every.subset(rest)
        rule = (
            f"{per_class_train} images of every class for train, the rest for test, at random (seed"
            f" {seed})"
        )
    splits, val_rule = with_val(
        train, {"test": test}, val_split=val_split, val_fraction=val_fraction, seed=seed
    )
    return SampleSource(
        dataset="caltech101",
        classes=classes,
        splits=splits,
        split_rule=f"{rule}; {val_rule}",
        options=({"per_class": per_class_train} if split == "random" else {})
        | {"split": split, "val_split": val_split, "val_fraction": val_fraction, "seed": seed},
        listing=listing,
    )


def _find_root(source: Path) -> Path:
    """The folder with the class folders: `source` itself, or a folder in it."""
    from slipform.preprocess.class_folders import locate

    if source.name == _FOLDER or (source / "accordion").is_dir():
        return source
    if root := locate(source, _FOLDER):
        return root
    raise DatasetError(f"{source} holds no {_FOLDER}. --source takes a folder with {_FILES}.")


def read_list(root: Path, path: Path, classes: list[str]) -> Files:
    """Read a list of images, one `class/image.jpg` per line. The background class is left out.

    Args:
        root: The folder with the class folders.
        path: The list.
        classes: Names of the classes, in the order of the labels.

    Returns:
        The images in the order of the list.

    Raises:
        DatasetError: The list cannot be read, names an image twice, or names one that does not
            exist.
    """
    import numpy as np

    from slipform.preprocess.source import Files

    try:
        with open_regular(path, DatasetError) as file:
            lines = file.read().decode("utf-8").split("\n")
    except (DatasetError, UnicodeDecodeError) as error:
        raise DatasetError(
            f"{path} cannot be read as a list of images ({error}). --split random needs no lists."
        ) from None
    label_of = {name: label for label, name in enumerate(classes)}
    present = {f"{name}/{entry}" for name in classes for entry in os.listdir(root / name)}
    paths = [
        line.strip() for line in lines if line.strip() and not line.startswith(f"{_BACKGROUND}/")
    ]
    if missing := [line for line in paths if line not in present]:
        shown = "\n  ".join(map(printable, missing[:20])) + (
            f"\n  and {len(missing) - 20} more" if len(missing) > 20 else ""
        )
        raise DatasetError(
            f"{path.name} names {len(missing)} images that are not in {root}:\n  {shown}"
        )
    if len(set(paths)) != len(paths):
        raise DatasetError(f"{path.name} names an image twice.")
    return Files(
        root, paths, np.array([label_of[line.split("/", 1)[0]] for line in paths], np.int64)
    )


DATASETS = (
    DatasetSpec(
        name="caltech101",
        help="Caltech-101, by its lists or at random.",
        example="prep caltech101 --source raw/caltech101 --out data/caltech101",
        read=_read,
        torchvision="Caltech101",
        files=_FILES,
        options=(
            click.Option(
                ["--split"],
                type=click.Choice(["auto", "lists", "random"]),
                default="auto",
                show_default=True,
                help=(
                    "lists: train.txt and test.txt beside the images; random: at random; auto:"
                    " lists if they exist."
                ),
            ),
            click.Option(
                ["--per-class", "per_class_train"],
                type=click.IntRange(1),
                default=30,
                show_default=True,
                help="Images of a class for train, with --split random.",
            ),
            *val_options(0.5),
        ),
    ),
)
