"""`build_dataset`: a SampleSource becomes a dataset folder. This is the flow of the package.

    source.splits --chunks--> threads: read, check, convert, encode, CRC
                  --in order--> one writer per split --> the folder is exchanged

In: a SampleSource and the Encoding. Out: the dataset folder and its manifest.

Threads are used, not processes. Reading, OpenCV, Pillow, CRC and SHA release the GIL, and nothing
has to be copied between processes. No worker can die alone: a crash ends the whole run and leaves
the old dataset unchanged.
"""

from __future__ import annotations

import csv
import io
import threading
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from slipform.pipelines.decoding.any_image import quiet_decoders
from slipform.pipelines.errors import DatasetError, printable
from slipform.pipelines.files import write_whole
from slipform.pipelines.label_table import write_label_table
from slipform.pipelines.machine import num_cores
from slipform.pipelines.manifest import Manifest, SplitInfo, write_manifest
from slipform.pipelines.sample_names import write_names
from slipform.preprocess.account import account, named, report
from slipform.preprocess.atomic_folder import REJECTED, REPORT, replacing
from slipform.preprocess.encode import KEEP, Chunk, Encoding, Rejected, encode_chunk
from slipform.preprocess.pixel_sums import PixelSums
from slipform.preprocess.source import Arrays, Samples, SampleSource
from slipform.preprocess.writer import BetonWriter

__all__ = ["build_dataset"]

# The size of a chunk. Two chunks per thread are in memory.
_CHUNK_BYTES = 1 << 20
# The limit for files: the progress bar moves often, and Ctrl-C takes effect soon.
_CHUNK_SAMPLES = 64
# If JPEGs are kept, mean and std are computed from about this many images, with and without checks.
# Their error is about 0.01 and 0.02. Decoding and summing an image takes nine times as long as
# checking it.
_STATISTICS_SAMPLES = {True: 384, False: 128}


def build_dataset(
    source: SampleSource,
    out: Path,
    encoding: Encoding = KEEP,
    *,
    threads: int = 0,
    on_bad: str = "error",
    progress: Callable[[int], None] = lambda num_samples: None,
) -> Manifest:
    """Write a dataset folder, whole or not at all. An existing dataset is replaced.

    Args:
        source: The samples.
        out: The folder. If it is a link, the folder that it points to is replaced.
        encoding: How samples are stored.
        threads: Number of threads. 0: one per core. It has no effect on the files.
        on_bad: "error": all unusable samples are listed and nothing is written. "skip": they are
            left out and named in rejected.csv and report.txt.
        progress: Called with the number of samples that were done since the last call.

    Returns:
        The manifest that was written.

    Raises:
        DatasetError: A sample is unusable, a split is empty, or `out` exists and is not a dataset.
        OSError: The disk is full or fails, or a file vanished.
    """
    lines = account(source, encoding)
    threads = threads or num_cores()
    written = _Written()
    splits: dict[str, SplitInfo] = {}
    every = _statistics_step(source, encoding)
    with replacing(out) as folder, _decoders_for_threads(), ThreadPoolExecutor(1) as background:
        sealed: dict[str, Future[str]] = {}
        for split, samples in source.splits.items():
            writer = BetonWriter(folder / f"{split}.beton", len(samples.labels))
            names: list[str] = []
            try:
                # If writing fails, `closing` stops the threads before the error is passed on.
                sum_every = every if split == "train" else 0
                with closing(_chunks(samples, encoding, sum_every, threads)) as chunks:
                    for chunk in chunks:
                        written.add(split, chunk)
                        # After the first bad sample only the list of bad samples matters.
                        if on_bad == "skip" or not written.rejected:
                            writer.append(chunk)
                            names += chunk.names
                        progress(chunk.num_read)
                beton = folder / f"{split}.beton"
                splits[split] = writer.finish(len(source.classes)).model_copy(
                    update={
                        "names_sha256": write_names(beton, names),
                        **_write_labels(beton, source, split, written.rejected),
                    }
                )
            except BaseException:
                writer.close()
                raise
            # The file is flushed and hashed while the next split is read.
            sealed[split] = background.submit(writer.seal)
        hashes = {split: future.result() for split, future in sealed.items()}
        if written.rejected and on_bad == "error":
            raise DatasetError(
                f"{len(written.rejected)} samples cannot be used; nothing was written. Repair them,"
                " or leave them out with --on-bad skip:\n" + "\n".join(named(written.rejected))
            )
        if written.rejected:
            _write_rejected(folder / REJECTED, written.rejected)
        for split, info in splits.items():
            if info.num_samples == 0:
                raise DatasetError(
                    f"the split {split} would be empty: none of its"
                    f" {len(source.splits[split].labels)} samples can be used."
                )
        text = report(lines, source.listing, written.rejected, written.damaged)
        write_whole(folder / REPORT, text)
        mean, std = written.sums.mean_std()
        manifest = Manifest(
            dataset=source.dataset,
            options={
                **source.options,
                **_noted(encoding),
                "statistics": (
                    "all pixels of train" if every == 1 else f"one of {every} images of train"
                ),
            },
            classes=list(source.classes),
            labels=source.label_kind,
            splits={
                split: info.model_copy(update={"sha256": hashes[split]})
                for split, info in splits.items()
            },
            mean=mean,
            std=std,
            split_rule=source.split_rule,
            converted=dict(sorted(written.converted.items())),
            rejected=len(written.rejected),
            damaged=len(written.damaged),
            account=lines,
        )
        write_manifest(folder, manifest)
    return manifest


@dataclass
class _Written:
    """The counts and lists of all chunks of all splits, without the bytes."""

    rejected: list[tuple[str, Rejected]] = field(default_factory=list)
    damaged: list[tuple[str, Rejected]] = field(default_factory=list)
    converted: Counter[str] = field(default_factory=Counter)
    sums: PixelSums = field(default_factory=PixelSums)

    def add(self, split: str, chunk: Chunk) -> None:
        self.rejected += [(split, sample) for sample in chunk.rejected]
        self.damaged += [(split, sample) for sample in chunk.damaged]
        self.converted += chunk.converted
        self.sums.add(chunk.pixel_sums)


def _write_labels(
    beton: Path, source: SampleSource, split: str, rejected: list[tuple[str, Rejected]]
) -> dict[str, Any]:
    """Write the label table of the samples that were stored. Returns its entries of SplitInfo."""
    table = source.splits[split].table
    if table is None:
        return {}
    left_out = [sample.index for of_split, sample in rejected if of_split == split]
    stored = np.delete(np.arange(table.num_samples), left_out)
    table = table.subset(stored)
    return {
        "labels_sha256": write_label_table(beton, table),
        "label_counts": table.class_counts(len(source.classes)),
    }


def _statistics_step(source: SampleSource, encoding: Encoding) -> int:
    """n: mean and std come from every n-th image of train. It is 1 if all images are decoded."""
    if encoding.mode != "keep" or isinstance(source.splits["train"], Arrays):
        return 1
    return -(-len(source.splits["train"].labels) // _STATISTICS_SAMPLES[encoding.check])


def _chunks(
    samples: Samples, encoding: Encoding, sum_every: int, threads: int
) -> Generator[Chunk, None, None]:
    """Yield all samples as encoded chunks, in order.

    The first error in any thread stops all threads, within the time of one sample.
    """
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
                # The first chunks hold one sample, in case samples are huge. Later chunks follow
                # from the mean size of a sample.
                size = max(1, _CHUNK_BYTES * stored_samples // stored_bytes) if stored_bytes else 1
                if not isinstance(samples, Arrays):
                    size = min(size, _CHUNK_SAMPLES)
                end = min(total, start + size)
                pending.append(pool.submit(work, start, end))
                start = end
            chunk = pending.popleft().result()
            if stop.is_set():
                for future in pending:
                    future.result()  # raises the error
            stored_samples += len(chunk.sizes)
            stored_bytes += len(chunk.data)
            yield chunk
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _decoders_for_threads() -> Iterator[None]:
    """Within the block OpenCV uses one thread per call. The samples run in parallel."""
    cv2_threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with quiet_decoders():
            yield
    finally:
        cv2.setNumThreads(cv2_threads)


def _noted(encoding: Encoding) -> dict[str, Any]:
    """The encoding for the manifest: the options that had an effect."""
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


def _write_rejected(path: Path, rejected: list[tuple[str, Rejected]]) -> None:
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(["split", "index_in_source", "label", "name", "reason"])
    rows.writerows(
        (split, sample.index, sample.label, printable(sample.name), printable(sample.reason))
        for split, sample in rejected
    )
    write_whole(path, text.getvalue())
