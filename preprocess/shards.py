"""One shard of a dataset: `write_shard`. Any machine may write any shard, at any time.

In: a SampleSource, and the number of the shard. Out: one beton of each split with the files beside
it, and the record of the shard, which is written last. The content is a pure function of the
samples, of their order, and of the number of the shard. Shards have about the same number of bytes.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt

from slipform.pipelines.errors import DatasetError, printable
from slipform.pipelines.files import sync_folder, write_whole
from slipform.pipelines.manifest import FILE_NAME, Manifest
from slipform.preprocess.account import account
from slipform.preprocess.build import describe
from slipform.preprocess.encode import KEEP, Encoding, Rejected
from slipform.preprocess.shard_record import (
    NamedSample,
    Shard,
    ShardRecord,
    check_files,
    read_record,
    record_paths,
)
from slipform.preprocess.source import Samples, SampleSource, Sized
from slipform.preprocess.write_splits import Part, Written, write_splits

__all__ = ["remove_unfinished", "shard_parts", "write_shard"]

_READERS = 32  # threads that ask for the sizes of files, for slow file systems


def write_shard(
    source: SampleSource,
    out: Path,
    shard: Shard,
    encoding: Encoding = KEEP,
    *,
    threads: int = 0,
    on_bad: str = "error",
    progress: Callable[[int], None] = lambda num_samples: None,
) -> tuple[Manifest, bool]:
    """Write one shard of each split, whole or not at all. A finished shard is not written again.

    Args:
        source: The samples of all shards.
        out: The dataset folder, which all shards share.
        shard: The shard.
        encoding: How samples are stored.
        threads: Number of threads. 0: one per core. It has no effect on the files.
        on_bad: As for `build_dataset`.
        progress: Called with the number of samples that were done since the last call.

    Returns:
        The manifest of this shard alone, and whether it was written now.

    Raises:
        DatasetError: A sample is unusable, or `out` has another dataset or other shards.
        OSError: The disk is full or fails, or a file vanished.
    """
    lines, sizes = account(source, encoding), _sizes(source)

    def record(written: Written) -> ShardRecord:
        return ShardRecord(
            slipform=version("slipform"),
            source_sha256=_list_sha256(source, sizes),
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

    out.mkdir(parents=True, exist_ok=True)
    finished = _finished(out, shard, record(Written()), list(source.splits))
    if finished is not None:
        return finished.manifest, False
    parts = {
        split: Part(shard.file(split), samples)
        for split, samples in shard_parts(sizes, shard).items()
    }
    with _hidden_folder(out, shard) as folder:
        written = write_splits(
            source, folder, parts, encoding, threads=threads, on_bad=on_bad, progress=progress
        )
        for path in sorted(folder.iterdir()):
            os.replace(path, out / path.name)
        sync_folder(out)
    found = record(written)
    write_whole(out / shard.record, found.model_dump_json(indent=1) + "\n")
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


def _sizes(source: SampleSource) -> dict[str, npt.NDArray[np.int64]]:
    """The bytes of each sample by split. If a source does not know them, all are equal."""
    return {split: _sizes_of(samples) for split, samples in source.splits.items()}


def _sizes_of(samples: Samples) -> npt.NDArray[np.int64]:
    count = len(samples.labels)
    if not isinstance(samples, Sized):
        return np.ones(count, np.int64)
    with ThreadPoolExecutor(_READERS) as pool:
        found = pool.map(samples.num_bytes, range(count), chunksize=64)
        return np.fromiter(found, np.int64, count)


def _list_sha256(source: SampleSource, sizes: dict[str, npt.NDArray[np.int64]]) -> str:
    """The hash of names, labels and sizes of all samples."""
    digest = hashlib.sha256()
    for split, samples in source.splits.items():
        digest.update(f"{split} {len(samples.labels)}\n".encode())
        for index in range(len(samples.labels)):
            digest.update(samples.name(index).encode("utf-8", "surrogateescape") + b"\0")
        digest.update(np.ascontiguousarray(samples.labels, "<i8").data)
        digest.update(np.ascontiguousarray(sizes[split], "<i8").data)
        if samples.table is not None:
            digest.update(np.ascontiguousarray(samples.table.rows).view(np.uint8).data)
    return digest.hexdigest()


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


def _finished(out: Path, shard: Shard, new: ShardRecord, splits: list[str]) -> ShardRecord | None:
    """The record of the shard, if it is finished. Shards of another dataset are refused."""
    records = record_paths(out)
    if (out / FILE_NAME).exists() and not records:
        raise DatasetError(f"{out} holds a dataset without shards. Choose another --out.")
    own = _readable(out / shard.record)
    others = (_readable(path) for one, path in records if one != shard)
    for record in (own, next((one for one in others if one is not None), None)):
        if record is None:
            continue
        # `new` has no splits yet.
        manifest = new.manifest.model_copy(update={"splits": record.manifest.splits})
        why = new.model_copy(update={"manifest": manifest}).difference(record)
        if why or list(manifest.splits) != splits:
            raise DatasetError(
                f"{out} holds shard {record.shard} of another dataset ({why or 'other splits'})."
                " Choose another --out, or delete that folder."
            )
    if own is not None:
        try:
            check_files(out, own.manifest)
        except DatasetError:
            return None  # it is written again
    return own


def _readable(path: Path) -> ShardRecord | None:
    try:
        return read_record(path)
    except DatasetError:
        return None


@contextmanager
def _hidden_folder(out: Path, shard: Shard) -> Iterator[Path]:
    """A folder for files that are not finished. It is removed when the block ends.

    It is locked, so that others see that it is in use. The kernel releases the lock when the
    process ends in any way.
    """
    remove_unfinished(out, shard.record)
    folder = Path(tempfile.mkdtemp(prefix=f".{shard.record}.", dir=out))
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _locked(handle)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def remove_unfinished(out: Path, record: str = "shard-") -> None:
    """Delete what killed processes left in a folder.

    Args:
        out: The dataset folder.
        record: The name of a record: only what belongs to this shard is deleted.
    """
    for folder in out.glob(f".{record}*.*"):
        if not folder.is_dir() or folder.is_symlink():
            continue
        try:
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:  # another process has removed it
            continue
        try:
            if _locked(handle):
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(handle)


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # another process has it, or the file system has no locks
        return False
    return True
