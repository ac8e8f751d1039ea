"""Any images, as they lie there.

In: a folder, an archive or a file in one of the layouts of preprocess/layouts, or one folder per
class. Out: a SampleSource. Splits that the source does not have are taken from train at random.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from slipform.pipelines.decoding.image_file import ENDINGS
from slipform.preprocess.layouts.contract import Hints, Unlabeled
from slipform.preprocess.layouts.find_layout import OPTIONS, discover, find_layout, reads_file
from slipform.preprocess.registry import DatasetSpec, val_options

if TYPE_CHECKING:
    from slipform.preprocess.source import Samples, SampleSource

__all__ = ["DATASETS"]


def _read(
    source: Path,
    *,
    layout: str,
    list_file: str,
    image_column: str,
    label_column: str,
    label_separator: str,
    split_column: str,
    class_columns: str,
    class_names: Path | None,
    unlabeled: Unlabeled,
    test_fraction: float,
    val_split: str,
    val_fraction: float,
    seed: int,
) -> SampleSource:
    """Splits are those of the source. Those that it does not have are taken from train."""
    from slipform.preprocess.listing import Listing
    from slipform.preprocess.source import SampleSource
    from slipform.preprocess.splits import divide_samples, with_val

    listing = Listing()
    hints = Hints(
        list_file,
        image_column,
        label_column,
        label_separator,
        split_column,
        class_columns,
        class_names,
        unlabeled,
    )
    kind, place = find_layout(source, layout, hints, listing)
    found = kind.read(place, hints, listing)
    given, rules = {**found.splits}, [found.rule] if found.rule else []
    train = given.pop("train") if "train" in given else given.pop("")
    if "test" not in given and test_fraction:
        train, given["test"], rule = divide_samples(
            train, "test", "stratified", test_fraction, seed
        )
        rules.append(rule)
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
            **hints.given,
            "test_fraction": test_fraction,
            "val_split": val_split,
            "val_fraction": val_fraction,
            "seed": seed,
        },
        listing=listing,
    )


def _reads(source: Path, options: Mapping[str, Any]) -> bool:
    """Whether a file is read as it is, not unpacked: a list, Parquet, a tar with samples."""
    hints = Hints(**{name: options[name] for name in OPTIONS})
    return reads_file(source, options["layout"], hints)


def _option(names: list[str], help: str) -> click.Option:
    return click.Option(names, default="", help=help)


DATASETS = (
    DatasetSpec(
        name="images",
        help=(
            "Your own images.\n\nThey may be in one folder per class, in train/, val/ and test/, in"
            " a list (CSV, TSV, JSONL), Parquet files, WebDataset tars, or ImageNet. --dry-run"
            " says what was found."
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
                type=click.Choice(["auto", *discover()]),
                default="auto",
                show_default=True,
                help="; ".join(
                    f"{name}: {words}"
                    for name, words in [
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
            _option(
                ["--label-separator"],
                "Text between the labels of an image, such as , in `cat,dog`: labels are divided"
                " there, in the label column or key, or in .cls and .txt files of tars.",
            ),
            _option(["--split-column"], "The column with the split: train, val or test."),
            _option(
                ["--class-columns"],
                "Columns with a number for each class, separated by commas, or `others`: all other"
                " columns. 0 and 1 say which classes an image has; other numbers are shares, which"
                " sum to 1.",
            ),
            click.Option(
                ["--class-names"],
                type=click.Path(path_type=Path, dir_okay=False),
                default=None,
                help="A file with one class name per line, for labels that are numbers from 0.",
            ),
            click.Option(
                ["--unlabeled"],
                type=click.Choice(["skip", "error", "background"]),
                default="skip",
                show_default=True,
                help=(
                    "Rows of a list without a label. skip: leave them out; error: write nothing;"
                    " background: keep them, with a class of this name, or without any class if"
                    " images have several labels."
                ),
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
