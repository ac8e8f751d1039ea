"""CIFAR-10 and CIFAR-100: 60,000 images of 32 x 32 px, stored as raw pixels.

In: the official python or binary files. Out: a SampleSource. Both are rows of 3,072 bytes, the red,
green and blue planes one after another (A. Krizhevsky 2009, www.cs.toronto.edu/~kriz/cifar.html).
Labels in the official order of the names.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from slipform.pipelines.errors import DatasetError
from slipform.preprocess.class_folders import locate
from slipform.preprocess.pickles import ArrayState, read_pickle
from slipform.preprocess.registry import Dataset
from slipform.preprocess.source import Arrays, SampleSource
from slipform.preprocess.splits import val_options, with_val

ROW = 3 * 32 * 32
TRAIN_10 = [f"data_batch_{number}" for number in range(1, 6)]
SITE = "https://www.cs.toronto.edu/~kriz/cifar.html"
FILES_10 = (
    "data_batch_1 to 5 and test_batch (or the same with .bin), or cifar-10-python.tar.gz or"
    f" cifar-10-binary.tar.gz from {SITE}"
)
FILES_100 = (
    "train, test and meta (or train.bin and test.bin), or cifar-100-python.tar.gz or"
    f" cifar-100-binary.tar.gz from {SITE}"
)


def read_cifar10(source: Path, **val: Any) -> SampleSource:
    """The five batches as train, the test batch as test."""
    folder, binary = _folder(source, "data_batch_1", FILES_10)
    if binary:
        classes = _lines(folder / "batches.meta.txt", 10)
        parts = [_binary(folder / f"{name}.bin", (10,), 0) for name in (*TRAIN_10, "test_batch")]
    else:
        classes = _names(folder / "batches.meta", b"label_names", 10)
        parts = [_python(folder / name, b"labels", 10) for name in (*TRAIN_10, "test_batch")]
    images, labels = (np.concatenate(column) for column in zip(*parts[:-1], strict=True))
    return _source(
        "cifar10",
        classes,
        Arrays(images, labels, "train"),
        Arrays(*parts[-1], "test_batch"),
        val,
        {},
    )


def read_cifar100(source: Path, *, coarse: bool, **val: Any) -> SampleSource:
    """100 fine classes, or their 20 coarse ones."""
    folder, binary = _folder(source, "train", FILES_100)
    kind, num_classes = ("coarse", 20) if coarse else ("fine", 100)
    if binary:
        classes = _lines(folder / f"{kind}_label_names.txt", num_classes)
        parts = [
            _binary(folder / f"{name}.bin", (20, 100), 0 if coarse else 1)
            for name in ("train", "test")
        ]
    else:
        classes = _names(folder / "meta", f"{kind}_label_names".encode(), num_classes)
        parts = [
            _python(folder / name, f"{kind}_labels".encode(), num_classes)
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


def _folder(source: Path, first: str, files: str) -> tuple[Path, bool]:
    """Where the files lie, and whether they are the binary version."""
    for name in (first, f"{first}.bin"):
        if (path := locate(source, name)) and path.is_file():
            return path.parent, path.suffix == ".bin"
    raise DatasetError(f"{source} holds no {first}. --source takes a folder with {files}.")


def _python(
    path: Path, key: bytes, num_classes: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    batch = read_pickle(_existing(path))
    try:
        data, listed = batch[b"data"], batch[key]
        if not isinstance(data, ArrayState) or not all(type(label) is int for label in listed):
            raise ValueError("data is no array, or a label no number")
        rows, labels = data.bytes_array(), np.array(listed, np.int64)
    except (KeyError, ValueError, TypeError, OverflowError) as error:
        raise DatasetError(f"{path} is no CIFAR batch: {error}. Download it again.") from None
    return _checked(path, rows, labels, num_classes)


def _binary(
    path: Path, num_classes: tuple[int, ...], column: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    content = np.frombuffer(_existing(path).read_bytes(), np.uint8)
    width = len(num_classes) + ROW
    if len(content) == 0 or len(content) % width:
        raise DatasetError(
            f"{path} has {len(content)} bytes, which are no rows of {width}. Download it again."
        )
    rows = content.reshape(-1, width)
    return _checked(
        path, rows[:, len(num_classes) :], rows[:, column].astype(np.int64), num_classes[column]
    )


def _checked(
    path: Path, rows: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64], num_classes: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    if rows.ndim != 2 or rows.shape[1] != ROW or labels.shape != (len(rows),) or not len(rows):
        raise DatasetError(
            f"{path} holds arrays of shape {rows.shape} and {labels.shape}, expected (n, {ROW}) and"
            " (n,). Download it again."
        )
    if labels.min() < 0 or labels.max() >= num_classes:
        raise DatasetError(
            f"{path} holds a label outside 0 to {num_classes - 1}. Download it again."
        )
    return rows.reshape(-1, 3, 32, 32), labels


def _names(path: Path, key: bytes, number: int) -> list[str]:
    names = read_pickle(_existing(path)).get(key)
    if (
        not isinstance(names, list)
        or len(names) != number
        or not all(isinstance(name, str | bytes) for name in names)
    ):
        raise DatasetError(f"{path} does not hold {number} class names. Download it again.")
    return [name.decode("utf-8", "replace") if isinstance(name, bytes) else name for name in names]


def _lines(path: Path, number: int) -> list[str]:
    names = _existing(path).read_text(encoding="utf-8", errors="replace").split()
    if len(names) != number:
        raise DatasetError(
            f"{path} holds {len(names)} class names, expected {number}. Download it again."
        )
    return names


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise DatasetError(f"{path} is missing beside the other files. Download them again.")
    return path


def _source(
    name: str,
    classes: list[str],
    train: Arrays,
    test: Arrays,
    val: dict[str, Any],
    options: dict[str, Any],
) -> SampleSource:
    splits, val_rule = with_val(train, {"test": test}, **val)
    return SampleSource(
        dataset=name,
        classes=classes,
        splits=splits,
        split_rule=f"official train and test; {val_rule}",
        options=val | options,
    )


DATASETS = (
    Dataset(
        name="cifar10",
        help="CIFAR-10, python or binary version.",
        example="prep cifar10 --source raw/cifar-10-python.tar.gz --out data/cifar10",
        read=read_cifar10,
        torchvision="CIFAR10",
        files=FILES_10,
        options=val_options(0.1),
    ),
    Dataset(
        name="cifar100",
        help="CIFAR-100, python or binary version.",
        example="prep cifar100 --source raw/cifar-100-python.tar.gz --out data/cifar100",
        read=read_cifar100,
        torchvision="CIFAR100",
        files=FILES_100,
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
