"""LitData: chunks of samples, StreamingDataset and StreamingDataLoader."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipform.bench.peers import grid, without_advice
from slipform.bench.remote import CHUNK_BYTES, Epoch, Remote
from slipform.bench.remote.jpeg_samples import JpegSample, stored_samples
from slipform.bench.result.result import Settings

if TYPE_CHECKING:
    from slipform.bench.work import Work

__all__ = ["candidates", "check_installed", "epochs", "write"]


def check_installed() -> None:
    """See `Reader`."""
    for name in ("litdata", "boto3", "torchcodec.decoders", "torchvision.transforms.v2"):
        importlib.import_module(name)


def write(work: Work, folder: Path) -> None:
    """See `Reader`."""
    from litdata.streaming.cache import Cache

    cache = Cache(str(folder), chunk_bytes=CHUNK_BYTES)
    for index, (content, label) in enumerate(stored_samples(work)):
        cache[index] = {"image": content, "label": label}
    cache.done()
    cache.merge()


def candidates(work: Work) -> list[Settings]:
    """See `Reader`."""
    return grid(workers=sorted({work.cores, 2 * work.cores}))


@contextmanager
def epochs(remote: Remote, settings: Settings) -> Iterator[Epoch]:
    """See `Reader`."""
    import litdata
    from litdata.streaming import downloader

    work = remote.work
    sample = JpegSample(work)

    class Images(litdata.StreamingDataset):  # type: ignore[misc]
        def __getitem__(self, index: Any) -> tuple[Any, int]:
            stored = super().__getitem__(index)
            return sample(stored["image"]), stored["label"]

    # LitData reads with boto3 and with obstore, which refuses http. It has no setting for that.
    downloader._OBSTORE_CLIENT_OPTIONS["allow_http"] = True
    options = {"endpoint_url": os.environ["AWS_ENDPOINT_URL"]}
    dataset = Images(
        remote.url,
        cache_dir=remote.cache,
        shuffle=True,
        drop_last=True,
        seed=1,
        storage_options=options,
    )
    with without_advice():
        loader = litdata.StreamingDataLoader(
            dataset,
            batch_size=work.batch_size,
            num_workers=int(settings["workers"] or 0),
            drop_last=True,
            persistent_workers=True,
        )
        yield lambda: iter(loader)
