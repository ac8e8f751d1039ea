"""CIFAR-10 and CIFAR-100: 60,000 images of 32 x 32 px, stored as raw pixels.

In: the official python or binary files. Out: a SampleSource. Labels follow the official order of
the names. Source: A. Krizhevsky 2009, www.cs.toronto.edu/~kriz/cifar.html.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from slipform.preprocess.registry import DatasetSpec, val_options

if TYPE_CHECKING:
    from slipform.preprocess.source import Arrays, SampleSource

__all__ = ["DATASETS", "read_cifar10"]

_TRAIN_10 = [f"data_batch_{number}" for number in range(1, 6)]
_SITE = "https://www.cs.toronto.edu/~kriz/cifar.html"
_FILES_10 = (
    "data_batch_1 to 5 and test_batch (or the same with .bin), or cifar-10-python.tar.gz or"
    f" cifar-10-binary.tar.gz from {_SITE}"
)
_FILES_100 = (
    "train, test and meta (or train.bin and test.bin), or cifar-100-python.tar.gz or"
    f" cifar-100-binary.tar.gz from {_SITE}"
)


def read_cifar10(source: Path, **val: Any) -> SampleSource:
    """Read CIFAR-10. The five batches are train, the test batch is test.

    Args:
        source: A folder with the files.
        **val: How val is taken from train, as for `splits.with_val`.

    Returns:
        The samples.

    Raises:
        DatasetError: A file is missing or damaged.
    """
    import numpy as np

    from slipform.preprocess.cifar_files import (
        find_files,
        read_binary,
        read_lines,
        read_names,
        read_python,
    )
    from slipform.preprocess.source import Arrays

    folder, binary = find_files(source, "data_batch_1", _FILES_10)
    if binary:
        classes = read_lines(folder / "batches.meta.txt", 10)
        parts = [
            read_binary(folder / f"{name}.bin", (10,), 0) for name in (*_TRAIN_10, "test_batch")
        ]
    else:
        classes = read_names(folder / "batches.meta", b"label_names", 10)
        parts = [read_python(folder / name, b"labels", 10) for name in (*_TRAIN_10, "test_batch")]
    images, labels = (np.concatenate(column) for column in zip(*parts[:-1], strict=True))
    return _source(
        "cifar10",
        classes,
        Arrays(images, labels, "train"),
        Arrays(*parts[-1], "test_batch"),
        val,
        {},
    )


def _read_cifar100(source: Path, *, coarse: bool, **val: Any) -> SampleSource:
    """100 fine classes, or their 20 coarse ones."""
    from slipform.preprocess.cifar_files import (
        find_files,
        read_binary,
        read_lines,
        read_names,
        read_python,
    )
    from slipform.preprocess.source import Arrays

    folder, binary = find_files(source, "train", _FILES_100)
    kind, num_classes = ("coarse", 20) if coarse else ("fine", 100)
    if binary:
        classes = read_lines(folder / f"{kind}_label_names.txt", num_classes)
        parts = [
            read_binary(folder / f"{name}.bin", (20, 100), 0 if coarse else 1)
            for name in ("train", "test")
        ]
    else:
        classes = read_names(folder / "meta", f"{kind}_label_names".encode(), num_classes)
        parts = [
            read_python(folder / name, f"{kind}_labels".encode(), num_classes)
            for name in ("train", "test")
        ]
    return _source(
        "cifar100",
        classes,
        Arrays(*parts[0], "train"),
        Arrays(*parts[1], "test"),
        val,
        {"coarse": coarse},
    )


def _source(
    name: str,
    classes: list[str],
    train: Arrays,
    test: Arrays,
    val: dict[str, Any],
    options: dict[str, Any],
) -> SampleSource:
    """The SampleSource of both datasets. Val is taken from train."""
    from slipform.preprocess.source import SampleSource
    from slipform.preprocess.splits import with_val

    splits, val_rule = with_val(train, {"test": test}, **val)
    return SampleSource(
        dataset=name,
        classes=classes,
        splits=splits,
        split_rule=f"official train and test; {val_rule}",
        options=val | options,
    )


DATASETS = (
    DatasetSpec(
        name="cifar10",
        help="CIFAR-10, python or binary version.",
        example="prep cifar10 --source raw/cifar-10-python.tar.gz --out data/cifar10",
        read=read_cifar10,
        torchvision="CIFAR10",
        files=_FILES_10,
        options=val_options(0.1),
    ),
    DatasetSpec(
        name="cifar100",
        help="CIFAR-100, python or binary version.",
        example="prep cifar100 --source raw/cifar-100-python.tar.gz --out data/cifar100",
        read=_read_cifar100,
        torchvision="CIFAR100",
        files=_FILES_100,
        options=(
            click.Option(
                ["--coarse"],
                is_flag=True,
                help="The 20 coarse classes instead of the 100 fine ones.",
            ),
            *val_options(0.1),
        ),
    ),
)
