"""The peers: every file here is one way to load batches, ours among them.

In: a `Work`. Out: batches. A file is a module that follows `Peer`; adding a peer is one file.
"""

from __future__ import annotations

import importlib
import itertools
import pkgutil
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol, cast

from slipform.bench.result.result import Settings, Value
from slipform.pipelines.errors import ConfigError, unknown

if TYPE_CHECKING:
    from torch import Tensor

    from slipform.bench.work import Work

OURS = "slipform_loader"


class Peer(Protocol):
    """A module of this folder."""

    def reason_not(self, work: Work) -> str:
        """Why it cannot do this work; "" where it can.

        Imports what `batches` needs, because the time to the first batch does not count imports.

        Raises:
            ImportError: It is not installed.
        """

    def candidates(self, work: Work) -> list[Settings]:
        """Settings worth trying, the usual ones first."""

    def batches(
        self, work: Work, settings: Settings
    ) -> AbstractContextManager[Iterator[tuple[Tensor, Tensor]]]:
        """Endless (images, labels), epoch after epoch; closed on leaving."""


def peer_names() -> list[str]:
    """The modules in this folder that are not ours."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name != OURS)


def chosen_peers(text: str) -> list[str]:
    """The peers that a person means.

    Args:
        text: "all", "none", or names separated by commas, each of them shortened at will
            ("ffcv,torch").

    Returns:
        Names of modules.

    Raises:
        ConfigError: No module's name begins so.
    """
    if text in ("all", "none"):
        return peer_names() if text == "all" else []
    found = []
    for word in text.split(","):
        matching = [name for name in peer_names() if name.startswith(word.strip())]
        if not matching:
            raise unknown("peer", word.strip(), ["all", "none", *peer_names()])
        found += matching
    return found


def load_peer(name: str) -> Peer:
    """Import the module of that name.

    Raises:
        ImportError: There is none, or what it needs is not installed.
    """
    return cast(Peer, importlib.import_module(f"{__name__}.{name}"))


def grid(**choices: Iterable[Value]) -> list[Settings]:
    """All combinations: grid(threads=[1, 2], queue=[2]) gives [{"threads": 1, "queue": 2},
    {"threads": 2, "queue": 2}]."""
    names = list(choices)
    return [
        dict(zip(names, values, strict=True)) for values in itertools.product(*choices.values())
    ]


def endless(
    epoch: Callable[[], Iterable[tuple[Tensor, Tensor]]],
) -> Iterator[tuple[Tensor, Tensor]]:
    """Epoch after epoch.

    Args:
        epoch: Gives the batches of one epoch.

    Yields:
        Batches.

    Raises:
        ConfigError: An epoch has no batch.
    """
    while True:
        empty = True
        for batch in epoch():
            empty = False
            yield batch
        if empty:
            raise ConfigError(
                "the split holds fewer images than one batch: give a smaller --batch-size"
            )


@contextmanager
def without_advice() -> Iterator[None]:
    """Silence what torch and torchvision advise about settings that are meant: more workers than
    cores are tried on purpose, and torchvision's decoder is what is measured."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        warnings.filterwarnings("ignore", message="The image decoding")
        yield
