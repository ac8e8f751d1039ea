"""Slipform's loader, slipform.pipelines.loader.Loader, with the executor of the row.

Its batches overwrite those before them, as in `fit`, unless the settings have reuse_buffers=False,
which is the default of the class.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from slipform.bench.peers import endless, grid
from slipform.bench.result.result import Settings
from slipform.bench.work import Work
from slipform.pipelines.executors import NAMES

__all__ = ["WithStages", "batches", "candidates", "reason_not"]


def reason_not(work: Work) -> str:
    """See `Peer`."""
    importlib.import_module("slipform.pipelines.loader")
    for name in NAMES:
        importlib.import_module(f"slipform.pipelines.executors.{name}")
    return ""


def candidates(work: Work) -> list[Settings]:
    """See `Peer`."""
    return grid(executor=["auto"], threads=[0], prefetch=[2, 4])


@contextmanager
def batches(work: Work, settings: Settings) -> Iterator[Iterator[tuple[Tensor, Tensor]]]:
    """See `Peer`."""
    import torch

    from slipform.pipelines.loader import Loader

    share = settings.get("decoder_share")
    loader = Loader(
        Path(work.folder),
        work.split,
        work.augment,
        batch_size=work.batch_size,
        executor=str(settings["executor"]),
        device=work.device,
        dtype=getattr(torch, work.dtype),
        threads=int(settings["threads"] or 0),
        prefetch=int(settings["prefetch"] or 2),
        decoder_share="auto" if share is None else share,
        reuse_buffers=bool(settings.get("reuse_buffers", True)),
    )
    with loader:
        yield WithStages(
            endless(lambda: ((batch.images, batch.labels) for batch in loader)), loader.stats
        )


class WithStages:
    """An iterator of batches. It also gives the seconds that each stage of the loader has worked so
    far.

    Args:
        batches: The batches.
        stats: Returns the seconds of each stage; see `Loader.stats`.

    Attributes:
        stats: The argument.
    """

    def __init__(
        self, batches: Iterator[tuple[Tensor, Tensor]], stats: Callable[[], dict[str, float]]
    ) -> None:
        self._batches = batches
        self.stats = stats

    def __iter__(self) -> WithStages:
        return self

    def __next__(self) -> tuple[Tensor, Tensor]:
        return next(self._batches)
