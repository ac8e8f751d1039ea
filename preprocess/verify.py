"""A check of every byte of a dataset folder.

In: a dataset folder and its manifest. Out: one line for each fault, with index and class of the
sample.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np

from slipform.pipelines.beton import Beton
from slipform.pipelines.beton_format import JPG
from slipform.pipelines.checksums import crc32_path
from slipform.pipelines.decoding.any_image import decode
from slipform.pipelines.decoding.jpeg_entries import MAGIC
from slipform.pipelines.decoding.jpeg_header import header_size
from slipform.pipelines.decoding.jpeg_scan import find_entries
from slipform.pipelines.errors import DatasetError, SampleError, printable
from slipform.pipelines.label_table import read_label_table
from slipform.pipelines.machine import num_cores
from slipform.pipelines.manifest import BetonInfo, Manifest
from slipform.pipelines.sample_names import read_names
from slipform.pipelines.unclosed import GeneratorPool
from slipform.preprocess.places import Out, place_of

__all__ = ["find_faults"]

_AT_ONCE = 256  # samples that are given to the threads together


def find_faults(
    folder: Out,
    manifest: Manifest,
    threads: int = 0,
    progress: Callable[[int], None] = lambda num: None,
) -> Iterator[str]:
    """Check files (header, table, SHA-256, counts) and samples (CRC-32, decoding).

    Args:
        folder: The dataset folder: a path, or the URL of an object store. From there, one beton
            after another is copied to a temporary folder.
        manifest: Its manifest.
        threads: Number of threads. 0: one per core.
        progress: Called with the number of samples that were checked since the last call.

    Yields:
        One line for each fault.

    Raises:
        StorageError: The object store cannot be read.
    """
    place = place_of(folder)
    with GeneratorPool(threads or num_cores()) as pool:
        for split, info in manifest.splits.items():
            counts, first = np.zeros(manifest.num_classes, np.int64), 0
            for file in info.files:
                with ExitStack() as stack:
                    shown = near = str(place)
                    try:
                        copy = stack.enter_context(place.whole(file))
                        near = str(copy)
                        beton = Beton(copy / file.file)
                    except DatasetError as error:
                        yield f"{split}: {error.message.replace(near, shown)}"
                        first += file.num_samples
                        continue
                    faults = _faults_of(pool, beton, file, split, first, manifest, progress)
                    yield from (fault.replace(near, shown) for fault in faults)
                    labels = beton.labels
                    del beton  # a deleted file that is mapped still takes space
                # A damaged label may be any number: an array up to it would not fit into memory.
                counts += np.bincount(labels[labels < len(counts)], minlength=len(counts))
                first += len(labels)
            if counts.sum() == info.num_samples and counts.tolist() != info.counts:
                yield f"{split} has other numbers of images per class than the manifest"


def _faults_of(
    pool: ThreadPoolExecutor,
    beton: Beton,
    file: BetonInfo,
    split: str,
    first: int,
    manifest: Manifest,
    progress: Callable[[int], None],
) -> Iterator[str]:
    """The faults of a beton, of the files beside it, and of its samples."""
    yield from (f"{split}: {fault}" for fault in _file_faults(beton, file, manifest))
    yield from _sample_faults(pool, beton, f"{split} sample", first, manifest, progress)


def _sample_faults(
    pool: ThreadPoolExecutor,
    beton: Beton,
    what: str,
    first: int,
    manifest: Manifest,
    progress: Callable[[int], None],
) -> Iterator[str]:
    """The faults of all samples of a file. first: the number of its first sample in the split."""
    for start in range(0, len(beton), _AT_ONCE):
        indices = range(start, min(start + _AT_ONCE, len(beton)))
        faults = pool.map(lambda index: _sample_fault(beton, index), indices)
        for index, fault in zip(indices, faults, strict=True):
            if fault:
                label = int(beton.labels[index])
                name = manifest.classes[label] if label < manifest.num_classes else "no class"
                yield f"{what} {first + index} (class {label}, {printable(name)}): {fault}"
        beton.release_pages()
        progress(len(indices))


def _file_faults(beton: Beton, info: BetonInfo, manifest: Manifest) -> Iterator[str]:
    """The faults of a beton and of the files beside it."""
    path = beton.path
    with open(path, "rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != info.sha256:
            yield (
                f"{path.name} is not the file that was written: its SHA-256 differs from the"
                " manifest's"
            )
    if len(beton) != info.num_samples:
        yield f"{path.name} holds {len(beton)} samples, the manifest says {info.num_samples}"
    elif len(beton) and int(beton.labels.max()) >= manifest.num_classes:
        number = int((beton.labels >= manifest.num_classes).sum())
        yield f"{path.name} has {number} labels outside the {manifest.num_classes} classes"
    try:
        read_names(path.parent, info)
    except DatasetError as error:
        yield error.message
    try:
        read_label_table(
            path, manifest.labels, info.labels_sha256, info.num_samples, manifest.num_classes
        )
    except DatasetError as error:
        yield error.message
    if not crc32_path(path).exists():
        yield f"{crc32_path(path).name} is missing: the samples' checksums cannot be compared"


def _sample_fault(beton: Beton, index: int) -> str | None:
    try:
        beton.check_crc32(index)
        if beton.modes[index] == JPG:
            jpeg = beton.bytes_of(index)
            size = header_size(jpeg)
            entries = find_entries(jpeg)
            if entries is None:  # it is not sound, or of another kind
                size = decode(jpeg.tobytes()).pixels.shape[:2]
            right = b"" if entries is None else entries.packed(len(jpeg))
            if _has_wrong_entries(beton, index, right):
                return "its entry points are wrong"
            if size != (beton.heights[index], beton.widths[index]):
                return "its size is not the one in the table"
    except SampleError as error:
        return error.message
    except ValueError as error:
        return str(error)
    return None


def _has_wrong_entries(beton: Beton, index: int, right: bytes) -> bool:
    """Whether entry points follow a JPEG that are not its own: regions would have wrong pixels.

    Args:
        beton: The samples.
        index: Position of the JPEG.
        right: Its own entry points (`EntryPoints.packed`). b"": it has none.
    """
    after = beton.bytes_after(index)
    if after is None or after[: len(MAGIC)].tobytes() != MAGIC:
        return False
    return right == b"" or after[: len(right)].tobytes() != right
