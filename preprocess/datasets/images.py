"""Any images, as they lie there.

In: a folder, an archive or a file in one of the layouts of preprocess/layouts, or one folder per
class. Out: a SampleSource. Splits that the source does not have are taken from train at random.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from slipform.pipelines.decoding.image_file import ENDINGS
from slipform.pipelines.errors import DatasetError
from slipform.preprocess.find_layout import Hints, discover, find_layout
from slipform.preprocess.registry import DatasetSpec, val_options

if TYPE_CHECKING:
    from slipform.preprocess.listing import Listing
    from slipform.preprocess.source import Divisible, Samples, SampleSource

__all__ = ["DATASETS"]


def _read(
    source: Path,
    *,
    layout: str,
    list_file: str,
    image_column: str,
    label_column: str,
    split_column: str,
    class_names: Path | None,
    test_fraction: float,
    val_split: str,
    val_fraction: float,
    seed: int,
) -> SampleSource:
    """Splits are those of the source. Those that it does not have are taken from train."""
    from slipform.preprocess.listing import Listing
    from slipform.preprocess.source import SampleSource
    from slipform.preprocess.splits import describe, divide, with_val

    listing = Listing()
    hints = Hints(list_file, image_column, label_column, split_column, class_names)
    classes, given, rules = _find(source, layout, hints, listing)
    train = given.pop("train") if "train" in given else given.pop("")
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
    named = {name: str(value) for name, value in vars(hints).items() if value}
    return SampleSource(
        dataset="images",
        classes=classes,
        splits={name: samples for name, samples in splits.items() if len(samples.labels)},
        split_rule="; ".join(rules),
        options={
            "layout": layout,
            **named,
            "test_fraction": test_fraction,
            "val_split": val_split,
            "val_fraction": val_fraction,
            "seed": seed,
        },
        listing=listing,
    )


def _find(
    source: Path, layout: str, hints: Hints, listing: Listing
) -> tuple[list[str], dict[str, Divisible], list[str]]:
    """The classes, the samples by split, and where the splits come from."""
    from slipform.preprocess.class_folders import list_images
    from slipform.preprocess.layout import class_folders, single_folder, understand
    from slipform.preprocess.rows import divide_rows

    if layout not in _FOLDERS and (found := find_layout(source, layout, hints, class_folders)):
        kind, place = found
        rows = kind.read(place, hints, listing)
        classes, parts = divide_rows(rows, place, listing)
        return classes, {**parts}, [rows.rule] if rows.rule else []
    if any(vars(hints).values()):
        raise DatasetError(
            f"{source} holds no list, Parquet file or tar with the columns that were named. Name"
            " the list: --list FILE. Folders of classes have no columns."
        )
    try:
        root = single_folder(source, listing)
    except DatasetError as error:
        raise DatasetError(
            f"{error.message} Or a list (CSV, TSV, JSONL), Parquet files, WebDataset tars,"
            " or ImageNet with its lists."
        ) from None
    understood = understand(root, layout, listing)
    splits: dict[str, Divisible] = {
        split: list_images(root, folders, listing=listing)
        for split, folders in understood.splits.items()
    }
    by_folders = f"by folders {', '.join(sorted(splits))}"
    return understood.classes, splits, [by_folders] if "train" in splits else []


def _reads(source: Path) -> bool:
    """Whether a file is read as it is, not unpacked: a list, Parquet, a tar with samples."""
    return any(layout.find(source, Hints()) for layout in discover().values())


_FOLDERS = {
    "classes": "every folder is a class",
    "splits": "train/, val/ and test/ hold the classes",
}


def _option(names: list[str], help: str) -> click.Option:
    return click.Option(names, default="", help=help)


DATASETS = (
    DatasetSpec(
        name="images",
        help=(
            "Any images: one folder per class, train/, val/ and test/, a list (CSV, TSV, JSONL),"
            " Parquet, WebDataset tars, ImageNet."
        ),
        example="prep images --source my/photos --out data/photos --shorter-side 256",
        read=_read,
        reads=_reads,
        files=(
            f"one folder of images ({', '.join(ENDINGS)}) per class, or train/, val/, test/ with"
            " such folders, or a list of images, Parquet files, WebDataset tars, or ImageNet"
        ),
        options=(
            click.Option(
                ["--layout"],
                type=click.Choice(["auto", *_FOLDERS, *discover()]),
                default="auto",
                show_default=True,
                help="; ".join(
                    f"{name}: {words}"
                    for name, words in [
                        *_FOLDERS.items(),
                        *((found.name, found.help) for found in discover().values()),
                        ("auto", "the one of them that is possible, or an error if several are."),
                    ]
                ),
            ),
            _option(
                ["--list", "list_file"], "The list of images: the name of a file in the source."
            ),
            _option(["--image-column"], "The column with the path, or with the bytes of an image."),
            _option(["--label-column"], "The column, or key of JSON, with the label or labels."),
            _option(["--split-column"], "The column with the split: train, val or test."),
            click.Option(
                ["--class-names"],
                type=click.Path(path_type=Path, dir_okay=False),
                help="A file with one class name per line, for labels that are numbers from 0.",
            ),
            click.Option(
                ["--test-fraction"],
                type=click.FloatRange(0, 0.99),
                default=0.1,
                show_default=True,
                help="Part that becomes test if the source has no test split.",
            ),
            *val_options(0.1),
        ),
    ),
)
