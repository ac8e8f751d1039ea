"""Images that are in several splits of a dataset, as they are or almost.

In: a dataset folder and its manifest. Out: a `Duplicate` for each image of val and test that is in
another split, too: such images make an accuracy too high.

Equal images have equal bytes; their CRC-32 finds the candidates. Almost equal images have similar
perceptual hashes, and gray images of 32 x 32 pixels that are correlated. The hash is the usual
pHash: 64 bits, the lowest 8 x 8 frequencies (DCT) of such a gray image, each compared with their
median. Two matrix products compute it: the package imagehash does the same for one image at a time,
and needs two more packages.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL.Image

from slipform.pipelines.beton import Beton
from slipform.pipelines.beton_format import RAW
from slipform.pipelines.machine import num_cores
from slipform.pipelines.manifest import Manifest

__all__ = ["Duplicate", "find_duplicates", "perceptual_hashes"]

# Of the pairs within these limits in CIFAR-10 and Caltech-101, 203 and 131, all but two have equal
# labels. Of the pairs with up to 12 bits and any correlation, half of them have not.
_NEAR_BITS, _NEAR_CORRELATION = 8, 0.9
_SIDE, _LOW = 32, 8
_AT_ONCE, _ROWS = 512, 64  # images that are hashed together; and compared with all others
_Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Duplicate:
    """An image that is in two splits.

    Attributes:
        split: The split of the first image.
        index: Its position there.
        other: The split of the second image, which comes before it: train before val before test.
        other_index: Its position there; the most similar image, the first of equal ones.
        labels: The labels of both, class numbers.
        similarity: The correlation of the gray images of 32 x 32 pixels; 1 for equal bytes.
        exact: Whether the bytes are equal.
    """

    split: str
    index: int
    other: str
    other_index: int
    labels: tuple[int, int]
    similarity: float
    exact: bool


def find_duplicates(
    folder: Path,
    manifest: Manifest,
    *,
    near: bool = True,
    threads: int = 0,
    progress: Callable[[int], None] = lambda num: None,
) -> list[Duplicate]:
    """Find images that are in several splits.

    Args:
        folder: The dataset folder.
        manifest: Its manifest. Betons that cannot be read raise an error; see `find_faults`.
        near: Whether to find almost equal images, too. Each image is decoded for that.
        threads: Number of threads. 0: one per core.
        progress: Called with the number of images that were hashed since the last call.

    Returns:
        One entry for each image of a later split that is in an earlier one: equal images first,
        then almost equal ones, by similarity.

    Raises:
        DatasetError: A beton is damaged.
    """
    usual = [name for name in ("train", "val", "test") if name in manifest.splits]
    names: list[str] = [*usual, *(name for name in manifest.splits if name not in usual)]
    betons = {
        name: Beton(*(folder / one.file for one in manifest.splits[name].files)) for name in names
    }
    found = {(one.split, one.index): one for one in _equal(betons)}
    if near:
        with ThreadPoolExecutor(threads or num_cores()) as pool:
            hashes = {name: _hashes(beton, pool, progress) for name, beton in betons.items()}
            for one in _similar(betons, hashes, pool):
                found.setdefault((one.split, one.index), one)
    return sorted(found.values(), key=lambda one: (not one.exact, -one.similarity))


def _equal(betons: dict[str, Beton]) -> Iterator[Duplicate]:
    """The images of later splits whose bytes are in an earlier one."""
    first: dict[tuple[int, int], list[tuple[str, int]]] = {}
    for name, beton in betons.items():
        keys = list(zip(_crc32(beton), beton.sizes.tolist(), strict=True))
        for index, key in enumerate(keys):
            for other, other_index in first.get(key, ()):
                # Among a million images some have the same CRC-32 by chance.
                own, its = beton.bytes_of(index), betons[other].bytes_of(other_index)
                if np.array_equal(own, its):
                    labels = int(beton.labels[index]), int(betons[other].labels[other_index])
                    yield Duplicate(name, index, other, other_index, labels, 1.0, True)
                    break
        for index, key in enumerate(keys):
            first.setdefault(key, []).append((name, index))


def _crc32(beton: Beton) -> list[int]:
    table = beton.read_crc32()
    if len(table):
        return [int(value) for value in table]
    return [zlib.crc32(beton.bytes_of(index).data) for index in range(len(beton))]


def _hashes(
    beton: Beton, pool: ThreadPoolExecutor, progress: Callable[[int], None]
) -> tuple[_Hashes, npt.NDArray[np.bool_]]:
    """The hashes of all images, and which of them could be decoded."""
    hashes, there = np.zeros(len(beton), np.uint64), np.zeros(len(beton), np.bool_)
    for start in range(0, len(beton), _AT_ONCE):
        indices = range(start, min(start + _AT_ONCE, len(beton)))
        small = list(pool.map(partial(_small, beton), indices))
        there[indices] = [image is not None for image in small]
        if kept := [image for image in small if image is not None]:
            hashes[np.array(indices)[there[indices]]] = perceptual_hashes(np.stack(kept))
        progress(len(indices))
    return hashes, there


def _small(beton: Beton, index: int) -> npt.NDArray[np.uint8] | None:
    """An image as uint8 [32, 32], gray; None if it cannot be decoded."""
    try:
        if beton.modes[index] == RAW:
            image = PIL.Image.fromarray(beton.raw(index))
        else:
            image = PIL.Image.open(io.BytesIO(beton.bytes_of(index).tobytes()), formats=["JPEG"])
            image.draft("L", (2 * _SIDE, 2 * _SIDE))  # decodes at 1/8 where that is enough
        gray = image.convert("L").resize((_SIDE, _SIDE), PIL.Image.Resampling.BOX)
        return np.asarray(gray)
    except Exception:  # find_faults names images that cannot be decoded
        return None


def perceptual_hashes(images: npt.NDArray[np.uint8]) -> _Hashes:
    """The pHash of small gray images.

    Args:
        images: uint8 [N, 32, 32].

    Returns:
        uint64 [N].
    """
    at = np.arange(_SIDE)
    waves = np.cos(np.pi * (2 * at + 1) * np.arange(_LOW)[:, None] / (2 * _SIDE)).astype(np.float32)
    low = (waves @ images.astype(np.float32) @ waves.T).reshape(len(images), _LOW * _LOW)
    bits = low > np.median(low, axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(">u8")[:, 0].astype(np.uint64)


def _similar(
    betons: dict[str, Beton],
    hashes: dict[str, tuple[_Hashes, npt.NDArray[np.bool_]]],
    pool: ThreadPoolExecutor,
) -> Iterator[Duplicate]:
    """For each image of a later split, the image of the earlier ones with the nearest hash, if the
    two are almost equal."""
    known, places = np.zeros(0, np.uint64), list[tuple[str, int]]()
    for name, beton in betons.items():
        own, there = hashes[name]
        starts = range(0, len(own) if len(known) else 0, _ROWS)
        nearest = pool.map(partial(_nearest, own, known), starts)
        for start, (bits, columns) in zip(starts, nearest, strict=True):
            for row in np.flatnonzero((bits <= _NEAR_BITS) & there[start : start + _ROWS]).tolist():
                index, (other, other_index) = start + row, places[int(columns[row])]
                likeness = _correlation(beton, index, betons[other], other_index)
                if likeness >= _NEAR_CORRELATION:
                    labels = int(beton.labels[index]), int(betons[other].labels[other_index])
                    yield Duplicate(name, index, other, other_index, labels, likeness, False)
        known = np.concatenate([known, own[there]])
        places += [(name, int(index)) for index in np.flatnonzero(there)]


def _correlation(beton: Beton, index: int, other: Beton, other_index: int) -> float:
    """The correlation of two small gray images; 1 if both have one gray value only."""
    own, its = _small(beton, index), _small(other, other_index)
    assert own is not None
    assert its is not None
    a, b = own - own.mean(), its - its.mean()
    size = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / size if size else float(np.array_equal(own, its))


def _nearest(
    own: _Hashes, known: _Hashes, start: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """For each hash in a block of `own`: the smallest number of differing bits, and its place."""
    bits = np.bitwise_count(own[start : start + _ROWS, None] ^ known)
    places = bits.argmin(1)
    return bits[np.arange(len(bits)), places], places
