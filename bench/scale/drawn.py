"""Images of noise for runs of what `bench scale` simulates.

In: a folder, a number of images. Out: JPEGs, and the assumptions that hold for them on a machine
whose other values are measured later.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from slipform.bench.scale.assumptions import Assumptions
from slipform.preprocess.source import Files, SampleSource

__all__ = ["BATCH", "draw_images", "drawn_source"]

BATCH = 32  # images of a batch of a worker
_ENDLESS = 1e12


def draw_images(folder: Path, count: int, workers: int, shards: int, latency: float) -> Assumptions:
    """Write JPEGs of noise, of about 16 to 60 kB.

    Args:
        folder: An empty folder.
        count: The number of images.
        workers, shards, latency: As in `Assumptions`.

    Returns:
        The assumptions about the dataset.
    """
    generator, sizes = np.random.default_rng(0), []
    for index in range(count):
        height, width = generator.integers(100, 200, 2)
        pixels = generator.integers(0, 256, (height, width, 3), np.uint8)
        content = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
        (folder / f"{index:06d}.jpg").write_bytes(content)
        sizes.append(len(content))
    return replace(
        Assumptions(),
        samples=count,
        num_bytes=float(sum(sizes)),
        spread=float(np.std(np.log(sizes))),
        name_letters=len("000000.jpg"),
        workers=workers,
        shards=shards,
        cores=1,
        latency=latency,
        batch_size=BATCH,
        stat_seconds=1e-9,  # a local disk: it is in bookkeeping_seconds
        source_seconds=1e-9,
        source_bandwidth=_ENDLESS,
        hash_bandwidth=_ENDLESS,  # it is in core_bandwidth
        store_requests=_ENDLESS,
    )


def drawn_source(folder: Path, count: int) -> SampleSource:
    """The images as a dataset: ten classes, and no split but train.

    Args:
        folder: The folder.
        count: The number of images.
    """
    paths = [f"{index:06d}.jpg" for index in range(count)]
    labels = np.arange(count, dtype=np.int64) % 10
    files = Files(folder, paths, labels)
    return SampleSource("noise", list("abcdefghij"), {"train": files}, "all images")
