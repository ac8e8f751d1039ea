"""Readers of datasets in an object store: every module `*_reader.py` here is one of them.

In: the same images in the format of the reader, behind a URL. Out: epochs of batches. A module
implements `Reader`; a new reader is one new file.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from slipform.bench.options import words
from slipform.bench.result.result import Settings
from slipform.pipelines.errors import unknown

if TYPE_CHECKING:
    from torch import Tensor

    from slipform.bench.work import Work

__all__ = ["CHUNK_BYTES", "OURS", "Epoch", "Reader", "Remote", "chosen_readers", "load_reader"]

OURS = "slipform"
CHUNK_BYTES = 8 << 20  # of the formats that divide a dataset into chunks
_ENDING = "_reader"

Epoch = Callable[[], Iterable[tuple["Tensor", "Tensor"]]]


@dataclass(frozen=True)
class Remote:
    """A dataset in an object store, and how it is read.

    Attributes:
        work: The work. Its folder holds the same images on this machine.
        url: The URL of the dataset in the format of the reader.
        cache: The local folder for the reader's copies. It is empty at first.
    """

    work: Work
    url: str
    cache: str


class Reader(Protocol):
    """The functions of a module of a reader."""

    def check_installed(self) -> None:
        """Import all that `epochs` needs.

        Raises:
            ImportError: The reader is not installed.
        """

    def write(self, work: Work, folder: Path) -> None:
        """Write the images of a work in the format of the reader, with unchanged bytes.

        Args:
            work: The work.
            folder: An empty folder. Its files are uploaded.
        """

    def candidates(self, work: Work) -> list[Settings]:
        """The settings to try, the usual ones first.

        Args:
            work: The work.
        """

    def epochs(self, remote: Remote, settings: Settings) -> AbstractContextManager[Epoch]:
        """Open the dataset; the end of the context closes it.

        Args:
            remote: The dataset.
            settings: One of `candidates`.

        Returns:
            A context with a function. Each call of it gives the batches of one more epoch, in
            random order.
        """


def _names() -> list[str]:
    """The names of all readers, Slipform's first."""
    modules = [module.name for module in pkgutil.iter_modules(__path__)]
    found = [name.removesuffix(_ENDING) for name in modules if name.endswith(_ENDING)]
    return sorted(found, key=lambda name: (name != OURS, name))


def chosen_readers(text: str) -> list[str]:
    """The readers that take part: Slipform, and those that a user selected.

    Args:
        text: "all", "none", or names separated by commas ("litdata,mosaic").

    Returns:
        Names of readers.

    Raises:
        ConfigError: There is no such reader.
    """
    names = _names()
    if text in ("all", "none"):
        return names if text == "all" else [OURS]
    chosen = words(text)
    for name in chosen:
        if name not in names:
            raise unknown("reader", name, ["all", "none", *names])
    return [OURS, *(name for name in chosen if name != OURS)]


def load_reader(name: str) -> Reader:
    """Import a reader.

    Args:
        name: "slipform", "litdata" or "mosaic".

    Raises:
        ConfigError: There is no such reader.
    """
    if name not in _names():
        raise unknown("reader", name, _names())
    return cast(Reader, importlib.import_module(f"{__name__}.{name}{_ENDING}"))
