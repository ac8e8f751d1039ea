"""The same dataset as one beton for each split, and as shards.

In: a dataset folder. Out: a folder with the same samples in several betons. The writer of
preprocess/ is not used and has its own tests.
"""

from __future__ import annotations

import hashlib
from itertools import pairwise
from pathlib import Path
from typing import Any

from slipform.pipelines.beton import Beton
from slipform.pipelines.beton_format import RAW
from slipform.pipelines.checksums import index_sha256
from slipform.pipelines.dataset import open_dataset
from slipform.pipelines.label_table import write_label_table
from slipform.pipelines.manifest import BetonInfo, SplitInfo, write_manifest
from slipform.pipelines.sample_names import read_names, write_names
from tests.pipelines import folders


def write_shards(whole: Path, out: Path, bounds: list[int]) -> Path:
    """Write each split of `whole` as the samples 0..bounds[0], bounds[0]..bounds[1], ... ."""
    out.mkdir(parents=True)
    data, splits = open_dataset(whole), {}
    for name, info in data.manifest.splits.items():
        beton, shards = data.beton(name), []
        ends = [0, *(min(end, len(beton)) for end in bounds), len(beton)]
        for number, (start, stop) in enumerate(pairwise(ends), start=1):
            path = out / f"{name}-{number:05d}-of-{len(ends) - 1:05d}.beton"
            _write(path, beton, range(start, stop))
            shards.append(_info(path, whole, data, info, range(start, stop)))
        lines = "".join(f"{one.sha256}\n" for one in shards).encode()
        update = {"file": "", "shards": shards, "sha256": hashlib.sha256(lines).hexdigest()}
        splits[name] = info.model_copy(update=update)
    write_manifest(out, data.manifest.model_copy(update={"splits": splits}))
    return out


def _write(path: Path, beton: Beton, samples: range) -> None:
    images: list[Any] = [
        beton.raw(i).copy() if beton.modes[i] == RAW else beton.bytes_of(i).tobytes()
        for i in samples
    ]
    sizes = [(int(beton.heights[i]), int(beton.widths[i])) for i in samples]
    folders.write_beton(path, images, [int(beton.labels[i]) for i in samples], sizes)


def _info(path: Path, whole: Path, data: Any, info: SplitInfo, samples: range) -> BetonInfo:
    split, update = path.name.split("-", maxsplit=1)[0], {}
    if names := read_names(whole, info):
        update["names_sha256"] = write_names(path, [names[i] for i in samples])
    if info.labels_sha256:
        data.targets(split, 0)  # opens the table
        table = data._tables[split].subset(samples)
        update["labels_sha256"] = write_label_table(path, table)
    found = Beton(path)
    return BetonInfo(
        file=path.name,
        num_samples=len(samples),
        bytes=path.stat().st_size,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        index_sha256=index_sha256(found.labels, found.read_crc32()),
        **update,
    )
