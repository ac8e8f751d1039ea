"""MNIST and Fashion-MNIST: 70,000 gray images of 28 x 28 px, stored as RGB.

In: the four idx files, plain or gzip. Out: a SampleSource. Sources: Y. LeCun, C. Cortes, C. Burges,
yann.lecun.com/exdb/mnist; H. Xiao, K. Rasul, R. Vollgraf, arXiv:1708.07747.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from slipform.preprocess.registry import DatasetSpec, val_options

if TYPE_CHECKING:
    from slipform.preprocess.source import SampleSource

__all__ = ["DATASETS"]

_DIGITS = tuple("0123456789")
_FILES = "{train,t10k}-images-idx3-ubyte and {train,t10k}-labels-idx1-ubyte, plain or .gz, from "
_FASHION = (
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


def _read(
    name: str,
    classes: tuple[str, ...],
    source: Path,
    *,
    val_split: str,
    val_fraction: float,
    seed: int,
) -> SampleSource:
    """Train and test are those of the files. Val is taken from train."""
    from slipform.preprocess.idx import read_images
    from slipform.preprocess.source import SampleSource
    from slipform.preprocess.splits import with_val

    train, test = (read_images(source, part, len(classes)) for part in ("train", "t10k"))
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


DATASETS = (
    DatasetSpec(
        name="mnist",
        help="MNIST: handwritten digits.",
        example="prep mnist --source raw/mnist --out data/mnist",
        read=partial(_read, "mnist", _DIGITS),
        torchvision="MNIST",
        files=_FILES + "https://ossci-datasets.s3.amazonaws.com/mnist/",
        options=val_options(0.1),
    ),
    DatasetSpec(
        name="fashion-mnist",
        help="Fashion-MNIST: pieces of clothing.",
        example="prep fashion-mnist --source raw/fashion-mnist --out data/fashion-mnist",
        read=partial(_read, "fashion-mnist", _FASHION),
        torchvision="FashionMNIST",
        files=_FILES + "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        options=val_options(0.1),
    ),
)
