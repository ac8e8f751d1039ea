"""Slipform's loader, with the URL instead of a dataset folder."""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from slipform.bench.peers import grid
from slipform.bench.remote import Epoch, Remote
from slipform.bench.result.result import Settings

if TYPE_CHECKING:
    from torch import Tensor

    from slipform.bench.work import Work

__all__ = ["candidates", "check_installed", "epochs", "write"]


def check_installed() -> None:
    """See `Reader`."""
    for name in ("obstore", "slipform.pipelines.loader", "slipform.pipelines.executors.host"):
        importlib.import_module(name)


def write(work: Work, folder: Path) -> None:
    """See `Reader`."""
    shutil.copytree(work.folder, folder, dirs_exist_ok=True)


def candidates(work: Work) -> list[Settings]:
    """See `Reader`."""
    return grid(executor=["host"], prefetch=[2])


@contextmanager
def epochs(remote: Remote, settings: Settings) -> Iterator[Epoch]:
    """See `Reader`."""
    import torch

    from slipform.pipelines.loader import Loader

    os.environ["SLIPFORM_CACHE"] = remote.cache
    work = remote.work
    loader = Loader(
        remote.url,
        work.split,
        work.augment,
        batch_size=work.batch_size,
        executor=str(settings["executor"]),
        device=work.device,
        dtype=getattr(torch, work.dtype),
        prefetch=int(settings["prefetch"] or 2),
        reuse_buffers=True,
    )

    def epoch() -> Iterable[tuple[Tensor, Tensor]]:
        return ((batch.images, batch.labels) for batch in loader)

    with loader:
        yield epoch
