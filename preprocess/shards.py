"""One shard of a dataset: `write_shard`. Any machine may write any shard, at any time.

In: a SampleSource, and the number of the shard. Out: one beton of each split with the files beside
it, and the record of the shard, which is written last. The content is a pure function of the
samples, of their order, and of the number of the shard. Shards have about the same number of bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import numpy.typing as npt

from slipform.pipelines.errors import DatasetError, printable
from slipform.pipelines.files import write_whole
from slipform.pipelines.manifest import FILE_NAME, Manifest
from slipform.pipelines.project import project
from slipform.preprocess.account import account
from slipform.preprocess.build import describe
from slipform.preprocess.chunk import Rejected
from slipform.preprocess.claim import CLAIM, writer_of
from slipform.preprocess.encode import KEEP, Encoding
from slipform.preprocess.places import Out, Place, place_of
from slipform.preprocess.shard_list import ShardList
from slipform.preprocess.shard_record import (
    NamedSample,
    Shard,
    ShardRecord,
    check_files,
    read_record,
    shards_of,
)
from slipform.preprocess.source import SampleSource
from slipform.preprocess.write_splits import Part, Written, write_splits

__all__ = ["shard_parts", "write_shard"]


def write_shard(
    source: SampleSource | ShardList,
    out: Out,
    shard: Shard,
    encoding: Encoding = KEEP,
    *,
    threads: int = 0,
    on_bad: str = "error",
    progress: Callable[[int], None] = lambda num_samples: None,
) -> tuple[Manifest, bool]:
    """Write one shard of each split, whole or not at all. A finished shard is not written again.

    Args:
        source: The samples of all shards. With a `ShardList` their sizes are asked only once.
        out: The dataset folder, which all shards share: a path or the URL of an object store.
        shard: The shard.
        encoding: How samples are stored.
        threads: Number of threads. 0: one per core. It has no effect on the files.
        on_bad: As for `build_dataset`.
        progress: Called with the number of samples that were done since the last call.

    Returns:
        The manifest of this shard alone, and whether it was written now.

    Raises:
        DatasetError: A sample is unusable, or `out` has another dataset or other shards.
        StorageError: The object store cannot be read or written.
        OSError: The disk is full or fails, or a file vanished.
    """
    place, listed = place_of(out), source if isinstance(source, ShardList) else ShardList(source)
    source, lines = listed.source, account(listed.source, encoding)

    def record(written: Written) -> ShardRecord:
        return ShardRecord(
            slipform=project().version,
            source_sha256=listed.sha256,
            how={**asdict(encoding), "on_bad": on_bad},
            number=shard.number,
            count=shard.count,
            manifest=describe(source, encoding, lines, written),
            left_out=[(printable(path), why) for path, why in source.listing.left_out],
            rejected=_named(written.rejected),
            damaged=_named(written.damaged),
            num_pixels=written.sums.count,
            sums=written.sums.sums,
            squares=written.sums.squares,
        )

    finished = _finished(place, shard, record(Written()), list(source.splits))
    if finished is not None:
        return finished.manifest, False
    parts = {
        split: Part(shard.file(split), samples)
        for split, samples in shard_parts(listed.sizes, shard).items()
    }
    place.check_rights()
    with place.temporary(shard.hidden) as folder:
        written = write_splits(
            source, folder, parts, encoding, threads=threads, on_bad=on_bad, progress=progress
        )
        found = record(written)
        write_whole(folder / shard.record, found.model_dump_json(indent=1) + "\n")
        _claim(place, record(Written()))
        place.add(folder, shard.record)
    return found.manifest, True


def shard_parts(sizes: dict[str, npt.NDArray[np.int64]], shard: Shard) -> dict[str, range]:
    """The samples of each split that are in a shard.

    A shard has consecutive samples. Its bytes differ from an equal share by less than one sample.

    Args:
        sizes: By split: int64 [N], bytes of each sample, in their order.
        shard: The shard.
    """
    found = {}
    for split, size in sizes.items():
        ends = np.concatenate([[0], np.cumsum(np.maximum(size, 1))])
        total = int(ends[-1])
        shares = [total * k // shard.count for k in (shard.number - 1, shard.number)]
        after = np.searchsorted(ends, shares)
        # The nearer one of the ends before and after the exact share.
        before = np.maximum(after - 1, 0)
        start, stop = np.where(ends[after] - shares < shares - ends[before], after, before).tolist()
        found[split] = range(start, stop)
    return found


def _named(samples: list[tuple[str, Rejected]]) -> list[NamedSample]:
    return [
        NamedSample(
            split=split,
            index=one.index,
            label=int(one.label),
            name=printable(one.name),
            reason=printable(one.reason),
        )
        for split, one in samples
    ]


def _finished(
    place: Place, shard: Shard, new: ShardRecord, splits: list[str]
) -> ShardRecord | None:
    """The record of the shard, if it is finished. Shards of another dataset are refused."""
    names = place.names()
    finished = shards_of(names)
    if FILE_NAME in names and not finished:
        raise DatasetError(f"{place} holds a dataset without shards. Choose another --out.")
    own = _readable(place, shard) if shard in finished else None
    others = (_readable(place, one) for one in finished if one != shard)
    for record in (own, next((one for one in others if one is not None), None)):
        if record is None:
            continue
        # `new` has no splits yet.
        manifest = new.manifest.model_copy(update={"splits": record.manifest.splits})
        why = new.model_copy(update={"manifest": manifest}).difference(record)
        if why or list(manifest.splits) != splits:
            raise DatasetError(
                f"{place} holds shard {record.shard} of another dataset ({why or 'other splits'})."
                " Choose another --out, or delete that folder."
            )
    if own is not None:
        try:
            check_files(place, own.manifest)
        except DatasetError:
            return None  # it is written again
    return own


def _claim(place: Place, new: ShardRecord) -> None:
    """Only shards of one dataset are written to an object store.

    Two workers that begin at the same time see no record of each other.
    """
    common = new.model_copy(update={"number": 1, "left_out": []})
    first = place.claim(common.model_dump_json().encode())
    if writer := writer_of(first):
        raise DatasetError(
            f"another prep is uploading a dataset without shards to {place}: {writer}. Choose"
            " another --out."
        )
    try:
        why = common.difference(ShardRecord.model_validate_json(first))
    except ValueError as error:
        raise DatasetError(f"{place}/{CLAIM} is damaged. Delete it.") from error
    if why:
        raise DatasetError(
            f"{place} has shards of another dataset, or another prep is writing them now ({why})."
            " Choose another --out, or delete that folder."
        )


def _readable(place: Place, shard: Shard) -> ShardRecord | None:
    try:
        return read_record(place, shard)
    except DatasetError:
        return None
