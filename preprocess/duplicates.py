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
from itertools import accumulate
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL.Image

from slipform.pipelines.beton import Beton
from slipform.pipelines.beton_format import RAW
from slipform.pipelines.dataset import open_table
from slipform.pipelines.label_table import LabelTable
from slipform.pipelines.machine import num_cores
from slipform.pipelines.manifest import Manifest

__all__ = ["Duplicate", "find_duplicates", "perceptual_hashes"]

# Of the pairs within these limits in CIFAR-10 and Caltech-101, 203 and 131, all but two have equal
# labels. Of the pairs with up to 12 bits and any correlation, half of them have not.
_NEAR_BITS, _NEAR_CORRELATION = 8, 0.9
_TRIED = 16  # images on white have near hashes; the nearest one need not be the copy
_SIDE, _LOW = 32, 8
_AT_ONCE, _ROWS = 512, 64  # images that are hashed at once; that a thread compares with all others
_ORDER = {"train": 0, "val": 1, "test": 2}
_Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Duplicate:
    """An image that is in two splits.

    Attributes:
        split: The split of the first image.
        index: Its position there.
        other: The split of the second image, which comes before it: train before val before test.
        other_index: Its position there. It is the first of equal images, or the image with the
            nearest hash.
        classes: The class numbers of both. An image with several labels has several, or none; one
            with shares of classes has that with the largest share.
        similarity: The correlation of the gray images of 32 x 32 pixels; 1 for equal bytes.
        exact: Whether the bytes are equal.
    """

    split: str
    index: int
    other: str
    other_index: int
    classes: tuple[tuple[int, ...], tuple[int, ...]]
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
    samples = _Samples.of(folder, manifest)
    found = {(one.split, one.index): one for one in _equal(samples)}
    if near:
        with ThreadPoolExecutor(threads or num_cores()) as pool:
            for one in _similar(samples, *_hashes(samples.beton, pool, progress), pool):
                found.setdefault((one.split, one.index), one)
    return sorted(found.values(), key=lambda one: (not one.exact, -one.similarity))


@dataclass(frozen=True)
class _Samples:
    """The samples of all splits with one numbering: train before val before test."""

    beton: Beton
    splits: dict[str, range]  # the numbers of each split
    several: LabelTable | None  # where an image may have several labels
    num_classes: int

    @staticmethod
    def of(folder: Path, manifest: Manifest) -> _Samples:
        names = sorted(manifest.splits, key=lambda name: _ORDER.get(name, len(_ORDER)))
        files = [(name, one.file) for name in names for one in manifest.splits[name].files]
        beton, numbers = Beton(*(folder / file for _, file in files)), dict.fromkeys(names, 0)
        for (name, _), file in zip(files, beton.files(), strict=True):
            numbers[name] += len(file.labels)
        ends = list(accumulate(numbers.values()))
        splits = dict(zip(names, map(range, [0, *ends], ends), strict=False))
        several = open_table(folder, manifest, *names) if manifest.labels == "multi" else None
        return _Samples(beton, splits, several, manifest.num_classes)

    def later(self) -> Iterator[range]:
        """The numbers of each split that has others before it."""
        yield from list(self.splits.values())[1:]

    def pair(self, index: int, other: int, similarity: float, exact: bool) -> Duplicate:
        split, its = (
            next((name, at - of.start) for name, of in self.splits.items() if at in of)
            for at in (index, other)
        )
        classes = self._classes(index), self._classes(other)
        return Duplicate(*split, *its, classes, similarity, exact)

    def _classes(self, at: int) -> tuple[int, ...]:
        if self.several is None:
            return (int(self.beton.labels[at]),)
        (row,) = self.several.targets([at], self.num_classes)
        return tuple(np.flatnonzero(row).tolist())


def _equal(samples: _Samples) -> Iterator[Duplicate]:
    """The images of later splits whose bytes are in an earlier one."""
    beton = samples.beton
    keys = _crc32(beton).astype(np.uint64) << np.uint64(32) | beton.sizes.astype(np.uint32)
    for own in samples.later():
        order = keys[: own.start].argsort(kind="stable")
        sides = [
            np.searchsorted(keys[order], keys[own.start : own.stop], side)
            for side in ("left", "right")
        ]
        for index in np.flatnonzero(sides[1] > sides[0]).tolist():
            for other in order[sides[0][index] : sides[1][index]].tolist():
                # Among a million images some have the same CRC-32 by chance.
                if np.array_equal(beton.bytes_of(own[index]), beton.bytes_of(other)):
                    yield samples.pair(own[index], other, 1.0, True)
                    break


def _crc32(beton: Beton) -> npt.NDArray[np.uint32]:
    table = beton.read_crc32()
    if len(table) == len(beton):
        return table
    found = (zlib.crc32(beton.bytes_of(index).data) for index in range(len(beton)))
    return np.fromiter(found, np.uint32, len(beton))


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
        beton.release_pages()
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
    samples: _Samples, hashes: _Hashes, there: npt.NDArray[np.bool_], pool: ThreadPoolExecutor
) -> Iterator[Duplicate]:
    """For each image of a later split, an almost equal one of the earlier ones. Those with
    near hashes are tried, the nearest first."""
    for own in samples.later():
        earlier = np.flatnonzero(there[: own.start])
        starts = range(own.start, own.stop if len(earlier) else own.start, _ROWS)
        blocks = (hashes[start : min(start + _ROWS, own.stop)] for start in starts)
        nearest = pool.map(partial(_nearest, hashes[earlier]), blocks)
        for start, rows in zip(starts, nearest, strict=True):
            for index, places in enumerate(rows, start):
                for other in earlier[places].tolist() if there[index] else ():
                    likeness = _correlation(samples.beton, index, other)
                    if likeness >= _NEAR_CORRELATION:
                        yield samples.pair(index, other, likeness, False)
                        break


def _correlation(beton: Beton, index: int, other: int) -> float:
    """The correlation of two small gray images; 1 if both have one gray value only."""
    own, its = _small(beton, index), _small(beton, other)
    assert own is not None
    assert its is not None
    a, b = own - own.mean(), its - its.mean()
    size = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / size if size else float(np.array_equal(own, its))


def _nearest(known: _Hashes, own: _Hashes) -> list[npt.NDArray[np.int64]]:
    """For each own hash: the places of the known ones with few differing bits, the nearest first.

    One own hash at a time: 64 of them at once need 500 MB for a million known ones, and take 1.7
    times as long for 50,000.
    """
    found = []
    for value in own:
        differing = np.bitwise_count(value ^ known)
        places = np.flatnonzero(differing <= _NEAR_BITS)
        found.append(places[np.argsort(differing[places], kind="stable")[:_TRIED]])
    return found
