"""Caltech-256: 256 classes of objects, about 30,000 JPEGs.

In: the folder 256_ObjectCategories or its tar. Out: a SampleSource without the clutter class
(257.clutter). The split is random, because there are no official lists. Source: G. Griffin, A.
Holub, P. Perona 2007; data.caltech.edu/records/nyy15-4j048.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from slipform.pipelines.errors import DatasetError
from slipform.preprocess.registry import DatasetSpec, val_options

if TYPE_CHECKING:
    from slipform.preprocess.source import SampleSource

__all__ = ["DATASETS"]

_FOLDER = "256_ObjectCategories"
_FILES = (
    f"{_FOLDER}/ with one folder per class, or {_FOLDER}.tar from"
    " https://data.caltech.edu/records/nyy15-4j048"
)


def _read(
    source: Path, *, per_class_train: int, val_split: str, val_fraction: float, seed: int
) -> SampleSource:
    """`per_class_train` images of each class are for train and val, the others for test."""
    from slipform.preprocess.class_folders import image_folders, list_images, locate
    from slipform.preprocess.listing import Listing
    from slipform.preprocess.source import SampleSource
    from slipform.preprocess.splits import per_class, with_val

    root = source if source.name == _FOLDER else locate(source, _FOLDER)
    if root is None:
        raise DatasetError(f"{source} holds no {_FOLDER}. --source takes a folder with {_FILES}.")
    listing = Listing(f"{_FOLDER}, one folder per class")
    classes = [name for name in image_folders(root, listing) if not name.endswith(".clutter")]
    every = list_images(root, classes, deep=False, listing=listing)
    chosen, rest = per_class(every.labels, per_class_train, seed)
    train = every.subset(chosen)
    splits, val_rule = with_val(
        train,
        {"test": every.subset(rest)},
        val_split=val_split,
        val_fraction=val_fraction,
        seed=seed,
    )
    return SampleSource(
        dataset="caltech256",
        classes=classes,
        splits=splits,
        split_rule=(
            f"{per_class_train} images of every class for train, the rest for test, at random (seed"
            f" {seed}); {val_rule}"
        ),
        options={
            "per_class": per_class_train,
            "val_split": val_split,
            "val_fraction": val_fraction,
            "seed": seed,
        },
        listing=listing,
    )


DATASETS = (
    DatasetSpec(
        name="caltech256",
        help="Caltech-256, split at random.",
        example="prep caltech256 --source raw/256_ObjectCategories.tar --out data/caltech256",
        read=_read,
        torchvision="Caltech256",
        files=_FILES,
        options=(
            click.Option(
                ["--per-class", "per_class_train"],
                type=click.IntRange(1),
                default=60,
                show_default=True,
                help="Images of a class for train and val.",
            ),
            *val_options(0.1),
        ),
    ),
)
