"""Any folder of images.

In: one folder per class, or train/, val/ and test/ with one folder per class each. Out: a
SampleSource. Splits without a folder are taken from train at random. Labels follow the sorted class
names.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from slipform.pipelines.decoding.image_file import ENDINGS
from slipform.preprocess.registry import DatasetSpec, val_options

if TYPE_CHECKING:
    from slipform.preprocess.source import Files, Samples, SampleSource

__all__ = ["DATASETS"]


def _read(
    source: Path,
    *,
    layout: str,
    test_fraction: float,
    val_split: str,
    val_fraction: float,
    seed: int,
) -> SampleSource:
    """Splits are folders if the source has them. Otherwise they are taken from all images."""
    from slipform.preprocess.class_folders import list_images
    from slipform.preprocess.layout import single_folder, understand
    from slipform.preprocess.listing import Listing
    from slipform.preprocess.source import SampleSource
    from slipform.preprocess.splits import describe, divide, with_val

    listing = Listing()
    root = single_folder(source, listing)
    found = understand(root, layout, listing)
    given: dict[str, Files] = {}
    for split, folders in found.splits.items():
        given[split] = list_images(root, folders, listing=listing)
    train = given.pop("train") if "train" in given else given.pop("")
    rules = [f"by folders {', '.join(sorted(found.splits))}"] if "train" in found.splits else []
    if "test" not in given and test_fraction:
        staying, taken = divide(train.labels, "stratified", test_fraction, seed)
        rules.append(describe("test", "stratified", test_fraction, seed, len(taken)))
        train, given["test"] = train.subset(staying), train.subset(taken)
    splits: dict[str, Samples]
    if "val" in given:
        splits = {"train": train, "val": given.pop("val"), **given}
    else:
        splits, rule = with_val(
            train, given, val_split=val_split, val_fraction=val_fraction, seed=seed
        )
        rules.append(rule)
    return SampleSource(
        dataset="images",
        classes=found.classes,
        splits={name: samples for name, samples in splits.items() if len(samples.labels)},
        split_rule="; ".join(rules),
        options={
            "layout": layout,
            "test_fraction": test_fraction,
            "val_split": val_split,
            "val_fraction": val_fraction,
            "seed": seed,
        },
        listing=listing,
    )


DATASETS = (
    DatasetSpec(
        name="images",
        help=(
            "Any folder with one folder of images per class, or with train/, val/ and test/ of such"
            " folders."
        ),
        example="prep images --source my/photos --out data/photos --shorter-side 256",
        read=_read,
        files=(
            f"one folder of images ({', '.join(ENDINGS)}) per class, or train/, val/, test/ with"
            " such folders"
        ),
        options=(
            click.Option(
                ["--layout"],
                type=click.Choice(["auto", "classes", "splits"]),
                default="auto",
                show_default=True,
                help=(
                    "classes: every folder is a class; splits: train/, val/ and test/ hold the"
                    " classes; auto: the one of them that is possible, or an error if both are."
                ),
            ),
            click.Option(
                ["--test-fraction"],
                type=click.FloatRange(0, 0.99),
                default=0.1,
                show_default=True,
                help="Part that becomes test if there is no folder test/.",
            ),
            *val_options(0.1),
        ),
    ),
)
