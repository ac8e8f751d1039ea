"""A dataset with JPEGs, raw pixels and bad samples, and all of its shards.

In: which samples are bad, and the kind of labels. Out: a SampleSource, the merged manifest, and
what a manifest says of samples.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from slipform.pipelines.label_table import LabelTable
from slipform.pipelines.manifest import Manifest
from slipform.preprocess import shards
from slipform.preprocess.merge import merge
from slipform.preprocess.shard_record import Shard
from slipform.preprocess.source import Generated, SampleSource
from tests.pipelines import folders

COUNT = 5


def made(labels: str = "single", bad: tuple[int, ...] = (), label: int = 0) -> SampleSource:
    """37 samples of train and 9 of val: JPEGs, raw pixels, and bytes that are no image."""

    def split(first: int, count: int) -> Generated:
        def read(index: int) -> bytes | np.ndarray:
            pixels = folders.smooth(20 + index % 7, 24, first + index)
            if first + index in bad:
                return b"no image"
            return pixels if index % 4 == 0 else folders.jpeg(pixels)

        table = None
        if labels == "multi":
            table = LabelTable.of_sets(
                [[k % 3, (k + 1) % 3] if k % 2 else [] for k in range(count)]
            )
        numbers = (np.arange(count) + label) % 3 if table is None else table.first()
        return Generated(read, numbers, "made", table)

    return SampleSource(
        "made", list("abc"), {"train": split(0, 37), "val": split(37, 9)}, "as made"
    )


def write_all(source: SampleSource, out: Path, *, count: int = COUNT, **options: Any) -> Manifest:
    """All shards, the last one first."""
    for number in range(count, 0, -1):
        _, written = shards.write_shard(source, out, Shard(number, count), **options)
        assert written
    return merge(out)


def described(manifest: Manifest) -> dict[str, Any]:
    """What a manifest says of samples, without files."""
    content = manifest.model_dump()
    for info in content["splits"].values():
        for name in ("file", "bytes", "sha256", "shards"):
            del info[name]
    return content
