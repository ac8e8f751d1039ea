"""The shards of a folder become a dataset: `merge` checks them, and writes the manifest.

In: a folder in which all shards are finished. Out: dataset.json, report.txt, and rejected.csv if
samples were left out. The betons are not changed. The dataset equals the one that prep writes
without shards, sample for sample.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from slipform.pipelines.checksums import index_sha256
from slipform.pipelines.dataset import open_split, open_table
from slipform.pipelines.errors import DatasetError
from slipform.pipelines.label_table import label_table_bytes
from slipform.pipelines.manifest import FILE_NAME, BetonInfo, Manifest, SplitInfo
from slipform.pipelines.sample_names import names_path
from slipform.pipelines.together import together
from slipform.preprocess.build import finish
from slipform.preprocess.chunk import Rejected
from slipform.preprocess.pixel_sums import PixelSums
from slipform.preprocess.places import Out, Place, place_of
from slipform.preprocess.shard_record import (
    HIDDEN,
    NamedSample,
    ShardRecord,
    check_tables,
    read_record,
    shards_of,
)
from slipform.preprocess.write_splits import Written

__all__ = ["merge"]

_SHOWN = 8  # missing shards that are named
_AT_ONCE = 8  # records that are read together


def merge(folder: Out) -> Manifest:
    """Check all shards of a folder, and write its manifest. A second call does the same.

    Args:
        folder: The dataset folder: a path, or the URL of an object store. There, the sizes and the
            tables are checked, and no image is read.

    Returns:
        The manifest that was written.

    Raises:
        DatasetError: A shard is missing or damaged, or shards do not belong together.
        StorageError: The object store cannot be read or written.
        OSError: The disk is full or fails.
    """
    place = place_of(folder)
    records = _records(place)
    first = records[0]
    sums = PixelSums()
    for one in records:
        sums.add(PixelSums(one.num_pixels, one.sums, one.squares))
    converted: Counter[str] = Counter()
    for one in records:
        converted += Counter(one.manifest.converted)
    splits = list(first.manifest.splits)
    written = Written(
        rejected=_joined(splits, [one.rejected for one in records]),
        damaged=_joined(splits, [one.damaged for one in records]),
    )
    mean, std = sums.mean_std()
    manifest = first.manifest.model_copy(
        update={
            "splits": {
                split: _split([one.manifest.splits[split] for one in records]) for split in splits
            },
            "mean": mean,
            "std": std,
            "converted": dict(sorted(converted.items())),
            "rejected": len(written.rejected),
            "damaged": len(written.damaged),
        }
    )
    with place.tables(manifest) as tables:
        for one in records:
            check_tables(tables, one.manifest)
        hashed = {split: _hashed(tables, manifest, split) for split in splits}
    place.check_betons(one for info in manifest.splits.values() for one in info.files)
    manifest = manifest.model_copy(update={"splits": hashed})
    with place.temporary(f"{HIDDEN}merge.") as reports:
        finish(reports, manifest, first.left_out, written)
        place.add(reports, FILE_NAME)
    place.remove_abandoned(HIDDEN)
    return manifest


def _records(place: Place) -> list[ShardRecord]:
    """The records of all shards, which belong together."""
    names = place.names()
    shards = shards_of(names)
    if not shards and FILE_NAME in names:
        raise DatasetError(f"{place} holds a dataset without shards: there is nothing to merge.")
    if not shards:
        raise DatasetError(
            f"{place} has no finished shard. Write shards first: prep DATASET --shard K/N --out"
            f" {place}"
        )
    counts = sorted({shard.count for shard in shards})
    if len(counts) > 1:
        listed = " and ".join(map(str, counts))
        raise DatasetError(
            f"{place} has shards of datasets with {listed} shards. Delete those of one of them."
        )
    found = {shard.number for shard in shards}
    missing = [number for number in range(1, counts[0] + 1) if number not in found]
    if missing:
        named = ", ".join(f"{number}/{counts[0]}" for number in missing[:_SHOWN])
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise DatasetError(
            f"{place}: {len(missing)} of {counts[0]} shards are not finished: {named}{more}. Run"
            " prep for them with --shard"
        )
    records = together(partial(read_record, place), shards, _AT_ONCE, str(place))
    for one in records:
        if why := records[0].difference(one):
            raise DatasetError(
                f"{place}: shards {records[0].shard} and {one.shard} do not belong together"
                f" ({why}). Delete one of them, and run prep again for it."
            )
    return records


def _split(shards: Sequence[SplitInfo]) -> SplitInfo:
    """The split of its shards, without the hashes that need the files."""
    filled = [one for one in shards if one.num_samples] or shards[:1]
    lines = "".join(f"{one.sha256}\n" for one in shards).encode()
    modes: Counter[str] = Counter()
    for one in shards:
        modes.update(one.modes)
    return SplitInfo(
        file="",
        num_samples=sum(one.num_samples for one in shards),
        bytes=sum(one.bytes for one in shards),
        sha256=hashlib.sha256(lines).hexdigest(),
        counts=np.sum([one.counts for one in shards], axis=0).tolist(),
        modes=dict(modes),
        min_height=min(one.min_height for one in filled),
        min_width=min(one.min_width for one in filled),
        max_height=max(one.max_height for one in filled),
        max_width=max(one.max_width for one in filled),
        label_counts=np.sum([one.label_counts for one in shards], axis=0, dtype=int).tolist(),
        shards=[BetonInfo(**one.model_dump(include=set(BetonInfo.model_fields))) for one in shards],
    )


def _hashed(folder: Path, manifest: Manifest, split: str) -> SplitInfo:
    """The split with the hashes that one beton with the same samples has."""
    info, beton = manifest.split(split), open_split(folder, manifest, split)
    names, table = hashlib.sha256(), open_table(folder, manifest, split)
    for one in info.files:
        names.update(names_path(folder / one.file).read_bytes())
    return info.model_copy(
        update={
            "names_sha256": names.hexdigest(),
            "index_sha256": index_sha256(beton.labels, beton.read_crc32()),
            "labels_sha256": ""
            if table is None
            else hashlib.sha256(label_table_bytes(table)).hexdigest(),
        }
    )


def _joined(splits: list[str], parts: list[list[NamedSample]]) -> list[tuple[str, Rejected]]:
    """The samples of all shards, in the order in which one prep finds them."""
    return [
        (split, Rejected(one.index, one.label, one.name, one.reason))
        for split in splits
        for part in parts
        for one in part
        if one.split == split
    ]
