"""The peers: every file here is one way to load batches, Slipform's loader among them.

In: a `Work`. Out: batches. A file is a module that implements `Peer`; a new peer is one new file.
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

__all__ = [
    "OURS",
    "Peer",
    "chosen_peers",
    "endless",
    "grid",
    "load_peer",
    "peer_names",
    "without_advice",
]

OURS = "slipform_loader"


class Peer(Protocol):
    """The functions of a module in this folder."""

    def reason_not(self, work: Work) -> str:
        """Why the peer cannot do a work; "" if it can.

        This imports what `batches` needs: the time to the first batch does not include imports.

        Args:
            work: The work.

        Raises:
            ImportError: The peer is not installed.
        """

    def candidates(self, work: Work) -> list[Settings]:
        """The settings to try, the usual ones first.

        Args:
            work: The work.
        """

    def batches(
        self, work: Work, settings: Settings
    ) -> AbstractContextManager[Iterator[tuple[Tensor, Tensor]]]:
        """Open the loader; the end of the context closes it.

        Args:
            work: The work.
            settings: One of `candidates`.

        Returns:
            A context with an endless iterator of (images, labels), epoch after epoch.
        """


def peer_names() -> list[str]:
    """The names of all peers but Slipform's own loader, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name != OURS)


def chosen_peers(text: str) -> list[str]:
    """The names of the peers that a user selected.

    Args:
        text: "all", "none", or the beginnings of names, separated by commas ("ffcv,torch").

    Returns:
        Names of modules.

    Raises:
        ConfigError: No name begins with one of the words.
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
    """Import a peer.

    Args:
        name: One of `peer_names()`, or OURS.

    Raises:
        ImportError: There is no such module, or a package that it needs is not installed.
    """
    return cast(Peer, importlib.import_module(f"{__name__}.{name}"))


def grid(**choices: Iterable[Value]) -> list[Settings]:
    """All combinations of values: grid(a=[1, 2], b=[3]) == [{"a": 1, "b": 3}, {"a": 2, "b": 3}].

    Args:
        choices: The values of each setting.
    """
    names = list(choices)
    return [
        dict(zip(names, values, strict=True)) for values in itertools.product(*choices.values())
    ]


def endless(
    epoch: Callable[[], Iterable[tuple[Tensor, Tensor]]],
) -> Iterator[tuple[Tensor, Tensor]]:
    """Repeat epochs without end.

    Args:
        epoch: Returns the batches of one epoch.

    Yields:
        The batches of all epochs.

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
                "the split has fewer images than one batch: give a smaller --batch-size"
            )


@contextmanager
def without_advice() -> Iterator[None]:
    """Hide two warnings of torch and torchvision.

    bench tries more workers than cores intentionally, and it measures torchvision's own decoder.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        warnings.filterwarnings("ignore", message="The image decoding")
        yield
