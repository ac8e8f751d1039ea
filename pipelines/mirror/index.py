"""What a mirror needs before it can be opened: headers, metadata and tables of its betons.

In: a `Mirror` and betons of its manifest. Out: sparse betons that `Beton` opens, and the tables
beside them. A beton without a table of checksums is copied whole, because only the SHA-256 of the
whole file can then be checked.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from slipform.pipelines.beton_index import read_index
from slipform.pipelines.checksums import crc32_path, index_sha256, read_crc32
from slipform.pipelines.errors import DatasetError, MissingObjectError, StorageError
from slipform.pipelines.files import replacing, write_whole
from slipform.pipelines.label_table import label_table_path
from slipform.pipelines.manifest import BetonInfo
from slipform.pipelines.mirror.cache import write_at, writing
from slipform.pipelines.mirror.copy_index import index_bounds
from slipform.pipelines.mirror.folder import Mirror
from slipform.pipelines.remote.agreed import agreed
from slipform.pipelines.sample_names import names_path
from slipform.pipelines.together import together

__all__ = ["fetch_indices", "fetch_names"]

_AT_ONCE = 16  # betons: a thousand shards with three requests each, at 50 ms, take 10 s
_PIECE = 8 << 20  # bytes of a request for a whole file


def fetch_indices(mirror: Mirror, files: Sequence[BetonInfo]) -> None:
    """Have the index and the tables of betons in a mirror. What is there is checked.

    Args:
        mirror: The mirror.
        files: The betons.

    Raises:
        StorageError: The object store cannot be read, or the cache cannot be written.
        DatasetError: An object is not the one that dataset.json describes.
    """
    _at_once(mirror, lambda info: _Index(mirror, info).fetch(), files)


def fetch_names(mirror: Mirror, files: Iterable[BetonInfo]) -> None:
    """Have the names of the samples of betons in a mirror.

    Args:
        mirror: The mirror.
        files: The betons.

    Raises:
        StorageError: The object store cannot be read, or the cache cannot be written.
    """

    def fetch(info: BetonInfo) -> None:
        path = names_path(mirror.folder / info.file)
        if info.names_sha256 and _sha256_of(path) != info.names_sha256:
            write_whole(path, _read(mirror, path.name))

    _at_once(mirror, fetch, list(files))


def _at_once(mirror: Mirror, call: Callable[[BetonInfo], None], files: Sequence[BetonInfo]) -> None:
    with writing(mirror.folder):
        together(call, files, _AT_ONCE, mirror.store.url)


def _read(mirror: Mirror, name: str) -> bytes:
    return agreed(lambda: mirror.store.read(name), f"{mirror.store.url}/{name}")


def _sha256_of(path: Path) -> str:
    if not path.exists():
        return ""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Index:
    """The index of one beton. Its sums are in a file beside it: of the index, and of each table."""

    def __init__(self, mirror: Mirror, info: BetonInfo) -> None:
        self._mirror, self._info, self._store = mirror, info, mirror.store
        self._path = mirror.folder / info.file
        self._sums = self._path.with_suffix(".index.txt")
        self._head, self._tail = index_bounds(info)
        self._tables = [crc32_path(self._path)]
        if info.labels_sha256:
            self._tables.append(label_table_path(self._path))

    def fetch(self) -> None:
        """Fetch what is missing or damaged."""
        text = self._sums.read_bytes() if self._sums.exists() else b""
        known = text.decode("utf-8", "replace").split()
        whole = len(known) == 1  # without a table of checksums
        with self._mirror.locked() if whole else nullcontext():
            if known and known == self._present():
                if whole:  # every byte was compared now
                    self._mirror.present[self._mirror.numbers_of([self._info])] = 1
                return
        size = self._info.bytes
        found = [self._store.size(self._info.file) for _ in range(2)]  # an answer may be wrong
        if size not in found:
            raise DatasetError(
                f"{self._store.url}/{self._info.file} has {found[0]:,} bytes, dataset.json says"
                f" {size:,}: it was replaced, or its upload has not ended. Upload the"
                " dataset again."
            )
        head, tail = self._range(0, self._head), self._range(self._tail, size)
        tables = {path: self._table(path) for path in self._tables}
        with self._mirror.locked():
            self._write(head, tail)
            for path, content in tables.items():
                if content:
                    write_whole(path, content)
            if not tables[self._tables[0]]:
                self._copy_whole()
            self._check()
            write_whole(self._sums, "\n".join(self._present()) + "\n")

    def _present(self) -> list[str]:
        """The sums of what is in the mirror. []: the beton is missing."""
        if not self._path.exists() or self._path.stat().st_size != self._info.bytes:
            return []
        with open(self._path, "rb") as file:
            if not os.path.exists(self._tables[0]):
                return [hashlib.file_digest(file, "sha256").hexdigest()]
            digest = hashlib.sha256(file.read(self._head))
            file.seek(self._tail)
            digest.update(file.read())
        return [digest.hexdigest(), *map(_sha256_of, self._tables)]

    def _check(self) -> None:
        """Check what came. What is wrong must not count as fetched: it would never be repaired."""
        try:
            index = read_index(self._path, np.memmap(self._path, np.uint8, "r"))
            table = read_crc32(self._path, self._info.num_samples)
        except DatasetError as error:
            raise DatasetError(f"{self._store.url}: {error.message}") from error
        known = self._info.index_sha256
        if known and index_sha256(index.labels, table) != known:
            raise DatasetError(
                f"{self._store.url}/{self._info.file}, or its table of checksums, is not the file"
                " that dataset.json describes. Upload the dataset again."
            )

    def _range(self, start: int, end: int) -> bytes:
        name = self._info.file
        return agreed(
            lambda: bytes(self._store.read_range(name, start, end)), f"{self._store.url}/{name}"
        )

    def _table(self, path: Path) -> bytes:
        """A table. b"": there are no checksums."""
        try:
            return _read(self._mirror, path.name)
        except MissingObjectError:
            if path != self._tables[0] or self._info.index_sha256:
                raise
            return b""

    def _write(self, head: bytes, tail: bytes) -> None:
        """Write the index to the beton, in place: other processes may have it mapped."""
        if not self._path.exists() or self._path.stat().st_size != self._info.bytes:
            at = self._mirror.numbers_of([self._info])
            self._mirror.present[at] = 0  # a new file has no samples
            with replacing(self._path) as temporary:
                temporary.touch()
                os.truncate(temporary, self._info.bytes)
        with open(self._path, "r+b") as file:
            write_at(file.fileno(), head, 0)
            write_at(file.fileno(), tail, self._tail)

    def _copy_whole(self) -> None:
        """Copy all bytes of a beton that has no table of checksums."""
        name, digest = self._info.file, hashlib.sha256()
        place = f"{self._store.url}/{name}"
        if not self._info.sha256:
            raise DatasetError(
                f"{place} has neither checksums nor a SHA-256, so wrong bytes would not be noticed."
                " Run prep again, and upload the dataset again."
            )
        starts = range(0, self._info.bytes, _PIECE)

        def read(start: int) -> bytes:
            end = min(start + _PIECE, self._info.bytes)
            return bytes(self._store.read_range(name, start, end))

        with open(self._path, "r+b") as file:
            for first in range(0, len(starts), 4):  # so few are in memory
                for content in together(read, starts[first : first + 4], 4, place):
                    digest.update(content)
                    file.write(content)
        if digest.hexdigest() != self._info.sha256:
            raise StorageError(
                f"{place} is not the file that dataset.json describes: its SHA-256 differs. Run the"
                " command again. If this stays, upload the dataset again."
            )
        self._mirror.present[self._mirror.numbers_of([self._info])] = 1
