"""`build_dataset`: a SampleSource becomes a dataset folder. The flow of the package, in one place.

    source.splits --chunks--> threads: read, check, convert, encode, CRC --in order--> a writer per
    split --> folder exchanged

Threads, not processes: reading, OpenCV, Pillow, CRC and SHA release Python's lock, nothing has to
be copied between processes, and there is no worker that could die alone: a crash ends the whole run
and leaves the old dataset as it was.
"""

from __future__ import annotations

import csv
import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import cv2

from slipform.pipelines.decoding.any_image import quiet_decoders
from slipform.pipelines.errors import DatasetError
from slipform.pipelines.machine import num_cores
from slipform.pipelines.manifest import Manifest, SplitInfo, write_manifest
from slipform.preprocess.atomic_folder import replacing
from slipform.preprocess.encode import KEEP, Chunk, Encoding, PixelSums, Rejected, encode_chunk
from slipform.preprocess.source import Arrays, Samples, SampleSource
from slipform.preprocess.writer import BetonWriter

CHUNK_BYTES = (
    1 << 20
    # what a thread hands over at once; two chunks a thread are in flight, which stays small on any
    # machine
)
CHUNK_SAMPLES = (
    64  # at most so many that take time each: the progress bar moves, and Ctrl-C is quick
)
STATISTICS_SAMPLES = (
    128  # without decoding everything, mean and std come from about this many images: to about 0.02
)

Progress = Callable[[int], None]


def build_dataset(
    source: SampleSource,
    out: Path,
    encoding: Encoding = KEEP,
    *,
    threads: int = 0,
    on_bad: str = "error",
    progress: Progress = lambda num_samples: None,
) -> Manifest:
    """Write `source` to the folder `out`, replacing a dataset that is there, whole or not at all.
    Returns its manifest.

    threads: 0 for one per core. on_bad: "error" lists all unusable samples and writes
    nothing, "skip" leaves them out and names them in rejected.csv. progress(n): n more samples are
    done. Raises DatasetError, OSError (full disk, vanished file).
    """
    if "train" not in source.splits:
        raise DatasetError(
            f"no image is left for train: {source.split_rule}. Choose other fractions, or complete"
            " the lists."
        )
    threads = threads or num_cores()
    rejected: list[tuple[str, Rejected]] = []
    splits: dict[str, SplitInfo] = {}
    converted: Counter[str] = Counter()
    sums = PixelSums()
    every = _statistics_step(source, encoding)
    with replacing(out) as folder, _decoders_for_threads(), ThreadPoolExecutor(1) as background:
        sealed: dict[str, Future[str]] = {}
        for split, samples in source.splits.items():
            writer = BetonWriter(folder / f"{split}.beton", len(samples.labels))
            try:
                # Closed at once when writing fails: its threads stop before the error goes on.
                with closing(
                    _chunks(samples, encoding, every if split == "train" else 0, threads)
                ) as chunks:
                    for chunk in chunks:
                        rejected += [(split, sample) for sample in chunk.rejected]
                        converted += chunk.converted
                        sums.add(chunk.pixel_sums)
                        if (
                            on_bad == "skip" or not rejected
                        ):  # after the first bad one there is only the list to complete
                            writer.append(chunk)
                        progress(chunk.num_read)
                splits[split] = writer.finish(len(source.classes))
            except BaseException:
                writer.close()
                raise
            sealed[split] = background.submit(
                writer.seal
            )  # flushing and hashing, while the next split is read
        hashes = {split: future.result() for split, future in sealed.items()}
        if rejected and on_bad == "error":
            raise DatasetError(_listing(rejected))
        if rejected:
            _write_rejected(folder / "rejected.csv", rejected)
        for split, info in splits.items():
            if info.num_samples == 0:
                raise DatasetError(
                    f"the split {split} would be empty: none of its"
                    f" {len(source.splits[split].labels)} samples can be used."
                )
        mean, std = sums.mean_std()
        manifest = Manifest(
            dataset=source.dataset,
            options={
                **source.options,
                **_noted(encoding),
                "statistics": (
                    "all pixels of train" if every == 1 else f"every {every}th image of train"
                ),
            },
            classes=list(source.classes),
            splits={
                split: info.model_copy(update={"sha256": hashes[split]})
                for split, info in splits.items()
            },
            mean=mean,
            std=std,
            split_rule=source.split_rule,
            converted=dict(sorted(converted.items())),
            rejected=len(rejected),
        )
        write_manifest(folder, manifest)
    return manifest


def _statistics_step(source: SampleSource, encoding: Encoding) -> int:
    """Mean and std come from every n-th image of train: 1, exactly, wherever all are decoded
    anyway."""
    if encoding.check or encoding.mode != "keep" or isinstance(source.splits["train"], Arrays):
        return 1
    return -(-len(source.splits["train"].labels) // STATISTICS_SAMPLES)


def _chunks(
    samples: Samples, encoding: Encoding, sum_every: int, threads: int
) -> Generator[Chunk, None, None]:
    """All samples as encoded chunks, in order. The first error of any thread stops all of them,
    within the time of one sample."""
    total, start, stored_samples, stored_bytes = len(samples.labels), 0, 0, 0
    stop = threading.Event()
    pending: deque[Future[Chunk]] = deque()

    def work(start: int, end: int) -> Chunk:
        try:
            return encode_chunk(samples, start, end, encoding, sum_every, stop.is_set)
        except BaseException:
            stop.set()
            raise

    pool = ThreadPoolExecutor(threads, thread_name_prefix="encode")
    try:
        while start < total or pending:
            while start < total and len(pending) < 2 * threads:
                # One sample at first, so that huge ones do not come 64 at a time; then by what a
                # sample took so far.
                size = max(1, CHUNK_BYTES * stored_samples // stored_bytes) if stored_bytes else 1
                end = min(
                    total,
                    start + (size if isinstance(samples, Arrays) else min(size, CHUNK_SAMPLES)),
                )
                pending.append(pool.submit(work, start, end))
                start = end
            chunk = pending.popleft().result()
            if stop.is_set():
                for future in pending:
                    future.result()  # raises what went wrong
            stored_samples += len(chunk.sizes)
            stored_bytes += len(chunk.data)
            yield chunk
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _decoders_for_threads() -> Iterator[None]:
    """One thread per OpenCV call, as the samples run in parallel."""
    cv2_threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with quiet_decoders():
            yield
    finally:
        cv2.setNumThreads(cv2_threads)


def _noted(encoding: Encoding) -> dict[str, Any]:
    """The encoding as the manifest notes it: what was asked for and mattered."""
    noted: dict[str, Any] = {"encoding": encoding.mode, "checked": encoding.check}
    if encoding.mode != "raw":
        noted["quality"] = encoding.quality
    if encoding.bits != 16:
        noted["bits"] = encoding.bits
    return noted | {
        name: side
        for name in ("shorter_side", "max_side")
        if (side := getattr(encoding, name)) is not None
    }


def _listing(rejected: list[tuple[str, Rejected]]) -> str:
    lines = [f"  {split} {sample.name}: {sample.reason}" for split, sample in rejected]
    return (
        f"{len(rejected)} samples cannot be used; nothing was written. Repair them, or leave them"
        " out with --on-bad skip:\n" + "\n".join(lines)
    )


def _write_rejected(path: Path, rejected: list[tuple[str, Rejected]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["split", "index_in_source", "label", "name", "reason"])
        rows.writerows(
            (split, sample.index, sample.label, sample.name, sample.reason)
            for split, sample in rejected
        )
        file.flush()
        os.fsync(file.fileno())
