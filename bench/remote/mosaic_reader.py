"""MosaicML Streaming: shards in the format MDS, StreamingDataset, torch's DataLoader."""

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
    for name in ("streaming", "boto3", "torchcodec.decoders", "torchvision.transforms.v2"):
        importlib.import_module(name)


def write(work: Work, folder: Path) -> None:
    """See `Reader`."""
    from streaming import MDSWriter

    columns = {"image": "bytes", "label": "int"}
    with MDSWriter(columns=columns, out=str(folder), size_limit=CHUNK_BYTES) as writer:
        for content, label in stored_samples(work):
            writer.write({"image": content, "label": label})


def candidates(work: Work) -> list[Settings]:
    """See `Reader`."""
    return grid(workers=sorted({work.cores, 2 * work.cores}))


@contextmanager
def epochs(remote: Remote, settings: Settings) -> Iterator[Epoch]:
    """See `Reader`."""
    from streaming import StreamingDataset
    from torch.utils.data import DataLoader

    work = remote.work
    sample = JpegSample(work)

    class Images(StreamingDataset):  # type: ignore[misc]
        def __getitem__(self, index: Any) -> tuple[Any, int]:
            stored = super().__getitem__(index)
            return sample(stored["image"]), stored["label"]

    os.environ["S3_ENDPOINT_URL"] = os.environ["AWS_ENDPOINT_URL"]
    dataset = Images(
        remote=remote.url,
        local=remote.cache,
        shuffle=True,
        shuffle_seed=1,
        batch_size=work.batch_size,
    )
    # The workers are forks. They would share the connection that has read the index, and take each
    # other's answers.
    for stream in dataset.streams:
        stream._downloader.clean_up()
    with without_advice():
        loader: Any = DataLoader(
            dataset,
            batch_size=work.batch_size,
            num_workers=int(settings["workers"] or 0),
            drop_last=True,
            persistent_workers=True,
        )
        yield lambda: iter(loader)
