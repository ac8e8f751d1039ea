"""The datasets there are: one `Dataset` per subcommand of `prep`, found by listing the folder
preprocess/datasets.

To add a dataset, add one file there that defines DATASETS, a tuple of `Dataset`. It should import
only what is light (numpy, click) at its top: every file is imported for `prep --help`, which
answers within half a second.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click

from slipform.preprocess.source import SampleSource


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
