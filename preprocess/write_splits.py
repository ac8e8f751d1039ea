"""The samples of a SampleSource -> betons in a folder: `write_splits`.

    source.splits --chunks--> threads: read, check, convert, encode, CRC
                  --in order--> one writer per split

In: a SampleSource, the Encoding, and which samples go to which beton. Out: the betons with the
files beside them, and `Written`: what the manifest and the reports say about them.

Threads are used, not processes. Reading, OpenCV, Pillow, CRC and SHA release the GIL, and nothing
has to be copied between processes. No worker can die alone: a crash ends the whole run.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from slipform.pipelines.decoding.any_image import quiet_decoders
from slipform.pipelines.errors import DatasetError
from slipform.pipelines.label_table import write_label_table
from slipform.pipelines.machine import num_cores
from slipform.pipelines.manifest import SplitInfo
from slipform.pipelines.sample_names import write_names
from slipform.preprocess.account import named
from slipform.preprocess.chunk import Chunk, Rejected
from slipform.preprocess.encode import Encoding, encode_chunk
from slipform.preprocess.pixel_sums import PixelSums
from slipform.preprocess.source import Arrays, Samples, SampleSource
from slipform.preprocess.writer import BetonWriter

__all__ = ["Part", "Written", "statistics_step", "write_splits"]

# The size of a chunk. Two chunks per thread are in memory.
_CHUNK_BYTES = 1 << 20
# The limit for files: the progress bar moves often, and Ctrl-C takes effect soon.
_CHUNK_SAMPLES = 64
# If JPEGs are kept, mean and std are computed from about this many images, with and without checks.
# Their error is about 0.01 and 0.02. Decoding and summing an image takes nine times as long as
# checking it.
_STATISTICS_SAMPLES = {True: 384, False: 128}


@dataclass(frozen=True)
class Part:
    """The samples of a split that go to one beton.

    Attributes:
        file: Name of the beton.
        samples: Positions in the split.
    """

    file: str
    samples: range


@dataclass
class Written:
    """What was written, without the bytes.

    Attributes:
        splits: What the manifest says about each split.
        rejected: Split and sample of each sample that was not stored.
        damaged: Split and sample of each sample that was stored although its decoder warns.
        converted: Number of converted images by reason.
        sums: Over the pixels of train, for mean and standard deviation.
    """

    splits: dict[str, SplitInfo] = field(default_factory=dict)
    rejected: list[tuple[str, Rejected]] = field(default_factory=list)
    damaged: list[tuple[str, Rejected]] = field(default_factory=list)
    converted: Counter[str] = field(default_factory=Counter)
    sums: PixelSums = field(default_factory=PixelSums)

    def add(self, split: str, chunk: Chunk) -> None:
        """Add the counts and lists of a chunk.

        Args:
            split: Its split.
            chunk: The chunk.
        """
        self.rejected += [(split, sample) for sample in chunk.rejected]
        self.damaged += [(split, sample) for sample in chunk.damaged]
        self.converted += chunk.converted
        self.sums.add(chunk.pixel_sums)


def write_splits(
    source: SampleSource,
    folder: Path,
    parts: Mapping[str, Part],
    encoding: Encoding,
    *,
    threads: int = 0,
    on_bad: str = "error",
    progress: Callable[[int], None] = lambda num_samples: None,
) -> Written:
    """Write one beton of each split, and flush it to the disk.

    Args:
        source: The samples.
        folder: An empty folder.
        parts: For each split which samples are written, and the name of the beton.
        encoding: How samples are stored.
        threads: Number of threads. 0: one per core. It has no effect on the files.
        on_bad: "error": unusable samples are an error. "skip": they are left out.
        progress: Called with the number of samples that were done since the last call.

    Returns:
        What was written.

    Raises:
        DatasetError: A sample is unusable, and on_bad is "error". All of them are listed.
        OSError: The disk is full or fails, or a file vanished.
    """
    threads, written = threads or num_cores(), Written()
    every = statistics_step(source, encoding)
    with _decoders_for_threads(), ThreadPoolExecutor(1) as background:
        sealed: dict[str, Future[str]] = {}
        for split, part in parts.items():
            samples, beton = source.splits[split], folder / part.file
            writer = BetonWriter(beton, len(part.samples))
            names: list[str] = []
            try:
                # If writing fails, `closing` stops the threads before the error is passed on.
                sum_every = every if split == "train" else 0
                with closing(_chunks(samples, part.samples, encoding, sum_every, threads)) as found:
                    for chunk in found:
                        written.add(split, chunk)
                        # After the first bad sample only the list of bad samples matters.
                        if on_bad == "skip" or not written.rejected:
                            writer.append(chunk)
                            names += chunk.names
                        progress(chunk.num_read)
                left_out = [sample.index for name, sample in written.rejected if name == split]
                stored = np.setdiff1d(np.arange(part.samples.start, part.samples.stop), left_out)
                written.splits[split] = writer.finish(len(source.classes)).model_copy(
                    update={
                        "names_sha256": write_names(beton, names),
                        **_write_labels(beton, source, split, stored),
                    }
                )
                # The file is flushed and hashed while the next split is read.
                sealed[split] = background.submit(writer.seal)  # which closes it
            except BaseException:
                writer.close()
                raise
        for split, future in sealed.items():
            info = written.splits[split]
            written.splits[split] = info.model_copy(update={"sha256": future.result()})
    if written.rejected and on_bad == "error":
        raise DatasetError(
            f"{len(written.rejected)} samples cannot be used; nothing was written. Repair them,"
            " or leave them out with --on-bad skip:\n" + "\n".join(named(written.rejected))
        )
    return written


def _write_labels(
    beton: Path, source: SampleSource, split: str, stored: npt.NDArray[np.int64]
) -> dict[str, Any]:
    """Write the label table of the samples that were stored. Returns its entries of SplitInfo."""
    table = source.splits[split].table
    if table is None:
        return {}
    table = table.subset(stored)
    return {
        "labels_sha256": write_label_table(beton, table),
        "label_counts": table.class_counts(len(source.classes)),
    }


def statistics_step(source: SampleSource, encoding: Encoding) -> int:
    """n: mean and std come from every n-th image of train. It is 1 if all images are decoded.

    Args:
        source: The samples.
        encoding: How they are stored.
    """
    if encoding.mode != "keep" or isinstance(source.splits["train"], Arrays):
        return 1
    return -(-len(source.splits["train"].labels) // _STATISTICS_SAMPLES[encoding.check])


def _chunks(
    samples: Samples, chosen: range, encoding: Encoding, sum_every: int, threads: int
) -> Generator[Chunk, None, None]:
    """Yield samples as encoded chunks, in order.

    The first error in any thread stops all threads, within the time of one sample.
    """
    total, start, stored_samples, stored_bytes = chosen.stop, chosen.start, 0, 0
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
