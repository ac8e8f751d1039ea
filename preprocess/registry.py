"""The datasets that `prep` knows: one `DatasetSpec` per subcommand.

In: the files of the folder preprocess/datasets. Out: the datasets by name.

To add a dataset, add one file to that folder that defines DATASETS, a tuple of `DatasetSpec`. Every
such file is imported for `prep --help`. At its top it may import only modules that are quick to
import (click, this module). It imports the others in its functions.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from slipform.preprocess.source import SampleSource

__all__ = ["RULES", "DatasetSpec", "discover", "val_options"]

RULES = ("stratified", "odd_indices", "fraction")  # of `splits.divide`


@dataclass(frozen=True)
class DatasetSpec:
    """A dataset that `prep` can write.

    Attributes:
        name: The subcommand.
        help: Its help. The first line says what the dataset is.
        example: A command line to copy.
        read: read(source, **options) makes the SampleSource from a folder. Archives are unpacked
            before, unless `reads` takes them.
        options: Its own options.
        takes_source: Whether it has --source. Otherwise it is generated.
        torchvision: Name of the class in torchvision.datasets that downloads the official files and
            compares their checksums. "": no --download.
        reads: reads(file, options) says whether `read` takes a file as it is. Otherwise it is an
            archive.
        files: The files that --source must hold, and where they come from, for the messages.
    """

    name: str
    help: str
    example: str
    read: Callable[..., SampleSource]
    options: tuple[click.Option, ...] = ()
    takes_source: bool = True
    torchvision: str = ""
    files: str = ""
    reads: Callable[[Path, Mapping[str, Any]], bool] = lambda file, options: False

    def download(self, folder: Path) -> None:
        """Download the official files.

        Args:
            folder: An existing folder, where the files go.

        Raises:
            OSError: There is no network, or the write failed.
            RuntimeError: A checksum is wrong.
        """
        from torchvision import datasets

        getattr(datasets, self.torchvision)(folder, download=True)


def discover() -> dict[str, DatasetSpec]:
    """All datasets by name, from the modules of preprocess/datasets."""
    package = importlib.import_module("slipform.preprocess.datasets")
    found: dict[str, DatasetSpec] = {}
    for name in sorted(module.name for module in pkgutil.iter_modules(package.__path__)):
        module = importlib.import_module(f"slipform.preprocess.datasets.{name}")
        found |= {dataset.name: dataset for dataset in module.DATASETS}
    return found


def val_options(default_fraction: float) -> tuple[click.Option, ...]:
    """--val-split, --val-fraction and --seed, for datasets whose val split is taken from train.

    Args:
        default_fraction: Default of --val-fraction.
    """
    return (
        click.Option(
            ["--val-split"],
            type=click.Choice(RULES),
            default="stratified",
            show_default=True,
            help=(
                "How val is taken from train. stratified: a fraction of each class; odd_indices:"
                " every second image; fraction: a fraction of all images."
            ),
        ),
        click.Option(
            ["--val-fraction"],
            type=click.FloatRange(0, 0.99),
            default=default_fraction,
            show_default=True,
            help="Part of train that becomes val. 0: no val.",
        ),
        click.Option(
            ["--seed"],
            type=click.IntRange(0),
            default=0,
            show_default=True,
            help="Seed of the random split.",
        ),
    )
