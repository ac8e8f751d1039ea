"""MNIST and Fashion-MNIST: 70,000 gray images of 28 x 28 px, stored as RGB.

In: the four idx files, plain or gzip. Out: a SampleSource. The format: magic number, sizes as
big-endian uint32, then bytes (Y. LeCun, C. Cortes, C. Burges, yann.lecun.com/exdb/mnist; H. Xiao,
K. Rasul, R. Vollgraf, arXiv:1708.07747).
"""

from __future__ import annotations

import gzip
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from slipform.pipelines.errors import DatasetError
from slipform.preprocess.class_folders import locate
from slipform.preprocess.registry import Dataset
from slipform.preprocess.source import Arrays, SampleSource
from slipform.preprocess.splits import val_options, with_val

DIGITS = tuple("0123456789")
FASHION = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
FILES = "{train,t10k}-images-idx3-ubyte and {train,t10k}-labels-idx1-ubyte, plain or .gz, from "
# The largest of these files holds 47 MB; gzip could unpack to any size.
MAX_BYTES = 1 << 28


def read(
    name: str,
    classes: tuple[str, ...],
    source: Path,
    *,
    val_split: str,
    val_fraction: float,
    seed: int,
) -> SampleSource:
    """Train and test as they are given, val taken from train."""
    train, test = _images(source, "train", len(classes)), _images(source, "t10k", len(classes))
    splits, val_rule = with_val(
        train, {"test": test}, val_split=val_split, val_fraction=val_fraction, seed=seed
    )
    return SampleSource(
        dataset=name,
        classes=classes,
        splits=splits,
        split_rule=f"official train and test; {val_rule}",
        options={"val_split": val_split, "val_fraction": val_fraction, "seed": seed},
    )


def _images(source: Path, part: str, num_classes: int) -> Arrays:
    images = read_idx(_find(source, f"{part}-images", 3), 3)
    labels = read_idx(_find(source, f"{part}-labels", 1), 1)
    if len(images) != len(labels):
        raise DatasetError(f"{source} holds {len(images)} {part} images, but {len(labels)} labels.")
    if labels.max(initial=0) >= num_classes:
        raise DatasetError(
            f"{source} holds the {part} label {labels.max()}, expected 0 to {num_classes - 1}."
        )
    return Arrays(images, labels.astype(np.int64), f"{part}-images")


def _find(source: Path, stem: str, dimensions: int) -> Path:
    for name in (
        f"{stem}{dash}idx{dimensions}-ubyte{suffix}" for dash in "-." for suffix in ("", ".gz")
    ):
        if (path := locate(source, name)) and path.is_file():
            return path
    raise DatasetError(
        f"{source} holds no {stem}-idx{dimensions}-ubyte, plain or .gz. --source takes a folder"
        f" with {FILES}the official site."
    )


def read_idx(path: Path, dimensions: int) -> npt.NDArray[np.uint8]:
    """An idx file of bytes with that many dimensions. Raises DatasetError where it is none, is cut
    short, or goes on too long."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            header = file.read(4 + 4 * dimensions)
            if header[:4] != bytes([0, 0, 8, dimensions]) or len(header) != 4 + 4 * dimensions:
                raise DatasetError(f"{path} is no idx file of bytes with {dimensions} dimensions.")
            shape = [int(size) for size in np.frombuffer(header, ">u4", offset=4)]
            size = int(np.prod(shape, dtype=object))
            if 0 in shape or size > MAX_BYTES:
                raise DatasetError(f"{path} claims the absurd shape {' x '.join(map(str, shape))}.")
            data = file.read(size)
            if len(data) != size or file.read(1):
                raise DatasetError(
                    f"{path} does not hold the {size} bytes of its header. Download it again."
                )
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DatasetError(f"{path} is damaged: {error}. Download it again.") from None
    return np.frombuffer(data, np.uint8).reshape(shape)


DATASETS = (
    Dataset(
        name="mnist",
        help="MNIST: handwritten digits.",
        example="prep mnist --source raw/mnist --out data/mnist",
        read=partial(read, "mnist", DIGITS),
        torchvision="MNIST",
        files=FILES + "https://ossci-datasets.s3.amazonaws.com/mnist/",
        options=val_options(0.1),
    ),
    Dataset(
        name="fashion-mnist",
        help="Fashion-MNIST: pieces of clothing.",
        example="prep fashion-mnist --source raw/fashion-mnist --out data/fashion-mnist",
        read=partial(read, "fashion-mnist", FASHION),
        torchvision="FashionMNIST",
        files=FILES + "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        options=val_options(0.1),
    ),
)
