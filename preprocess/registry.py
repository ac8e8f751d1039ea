"""The datasets there are: one `Dataset` per subcommand of `prep`, found by listing the folder
preprocess/datasets.

To add a dataset, add one file there that defines DATASETS, a tuple of `Dataset`. At its
top it imports only what is light (click, this module); what it needs to read files is imported in
its functions, as every such file is imported for `prep --help`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from slipform.preprocess.source import SampleSource

RULES = ("stratified", "odd_indices", "fraction")


@dataclass(frozen=True)
class Dataset:
    """name: the subcommand. help: its first line says what it is. example: one line a person can
    copy.

    read(source, **options) makes the SampleSource from the folder `source` (the archive is already
    unpacked). torchvision: the class in torchvision.datasets that can fetch the official files, and
    checks their checksums. files: what has to lie in --source, and where it comes from, for the
    messages.
    """

    name: str
    help: str
    example: str
    read: Callable[..., SampleSource]
    options: tuple[click.Option, ...] = ()
    takes_source: bool = True
    torchvision: str = ""
    files: str = ""

    def download(self, folder: Path) -> None:
        """Fetch the official files into `folder`. Raises OSError without network, RuntimeError for
        a wrong checksum."""
        from torchvision import datasets

        getattr(datasets, self.torchvision)(folder, download=True)


def discover() -> dict[str, Dataset]:
    """All datasets by name, from every module of preprocess/datasets."""
    package = importlib.import_module("slipform.preprocess.datasets")
    found: dict[str, Dataset] = {}
    for module in sorted(pkgutil.iter_modules(package.__path__), key=lambda m: m.name):
        for dataset in importlib.import_module(
            f"slipform.preprocess.datasets.{module.name}"
        ).DATASETS:
            found[dataset.name] = dataset
    return found


def val_options(default_fraction: float) -> tuple[click.Option, ...]:
    """--val-split, --val-fraction and --seed, for datasets whose val split is taken from train."""
    return (
        click.Option(
            ["--val-split"],
            type=click.Choice(RULES),
            default="stratified",
            show_default=True,
            help=(
                "How val is taken from train: a fraction of every class; every second image; a"
                " fraction of all."
            ),
        ),
        click.Option(
            ["--val-fraction"],
            type=click.FloatRange(0, 0.99),
            default=default_fraction,
            show_default=True,
            help="Part of train that becomes val; 0: no val.",
        ),
        click.Option(
            ["--seed"],
            type=int,
            default=0,
            show_default=True,
            help="For the random choice of the split.",
        ),
    )
