"""Any folder of images.

In: one folder per class, or train/, val/, test/ with one folder per class each. Out: a
SampleSource; what is not given as a folder is taken at random from the rest. Labels in the order of
the sorted class names.
"""

from __future__ import annotations

from pathlib import Path

import click

from slipform.pipelines.decoding.image_file import ENDINGS
from slipform.pipelines.errors import DatasetError
from slipform.preprocess.class_folders import image_folders, list_images
from slipform.preprocess.registry import Dataset
from slipform.preprocess.source import Files, SampleSource
from slipform.preprocess.splits import describe, divide, val_options

SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


def read(
    source: Path, *, test_fraction: float, val_split: str, val_fraction: float, seed: int
) -> SampleSource:
    """Splits as folders where the source has a folder train/, else taken from all images."""
    root = _single_folder(source)
    given: dict[str, str] = {}
    for folder in image_folders(root):
        if (split := SPLIT_FOLDERS.get(folder.lower())) is not None:
            if split in given:
                raise DatasetError(
                    f"{root} holds two folders for the split {split}: {given[split]} and {folder}."
                )
            given[split] = folder
    rules = []
    if "train" not in given:
        classes = image_folders(root)
        train, splits = list_images(root, classes), {}
    else:
        classes = sorted(
            {name for folder in given.values() for name in image_folders(root / folder)}
        )
        splits = {split: _below(root, folder, classes) for split, folder in given.items()}
        train = splits.pop("train")
        rules.append("by folders " + ", ".join(sorted(given.values())))
    if "test" not in splits and test_fraction:
        staying, taken = divide(train.labels, "stratified", test_fraction, seed)
        train, splits["test"] = train.subset(staying), train.subset(taken)
        rules.append(f"test: {test_fraction:g} of every class, at random (seed {seed})")
    if "val" not in splits:
        staying, taken = divide(train.labels, val_split, val_fraction, seed)
        train, splits["val"] = train.subset(staying), train.subset(taken)
        rules.append(describe(val_split, val_fraction, seed))
    ordered = {name: (splits | {"train": train}).get(name) for name in ("train", "val", "test")}
    return SampleSource(
        dataset="images",
        classes=classes,
        splits={
            name: files
            for name, files in ordered.items()
            if files is not None and len(files.labels)
        },
        split_rule="; ".join(rules),
        options={
            "test_fraction": test_fraction,
            "val_split": val_split,
            "val_fraction": val_fraction,
            "seed": seed,
        },
    )


def _single_folder(source: Path) -> Path:
    """Through folders that hold one folder and nothing else, as many archives have them, to the
    folder that matters."""
    while (
        len(entries := [path for path in source.iterdir() if not path.name.startswith(".")]) == 1
        and entries[0].is_dir()
    ):
        if not any(child.is_dir() for child in entries[0].iterdir()):
            break
        source = entries[0]
    return source


def _below(root: Path, folder: str, classes: list[str]) -> Files:
    files = list_images(root / folder, classes)
    return Files(root, [f"{folder}/{path}" for path in files.paths], files.labels)


DATASETS = (
    Dataset(
        name="images",
        help=(
            "Any folder with one folder of images per class, or with train/, val/ and test/ of such"
            " folders."
        ),
        example="prep images --source my/photos --out data/photos --shorter-side 256",
        read=read,
        files=(
            f"one folder of images ({', '.join(ENDINGS)}) per class, or train/, val/, test/ with"
            " such folders"
        ),
        options=(
            click.Option(
                ["--test-fraction"],
                type=click.FloatRange(0, 0.99),
                default=0.1,
                show_default=True,
                help="Part that becomes test where there is no folder test/.",
            ),
            *val_options(0.1),
        ),
    ),
)
