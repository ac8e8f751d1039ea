"""The local mirror of a dataset in an object store: `local_folder("s3://bucket/data")`.

In: a URL. Out: a dataset folder on this machine. It has dataset.json, the tables and betons of the
right size, which are sparse: their samples come later, when they are needed (`mirror.reader`).
Another dataset.json behind the same URL gives another mirror, so two datasets are never mixed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from slipform.pipelines.errors import DatasetError, StorageError, printable
from slipform.pipelines.files import locked, read_regular, write_whole
from slipform.pipelines.manifest import (
    FILE_NAME,
    BetonInfo,
    Manifest,
    download_manifest,
    parse_manifest,
)
from slipform.pipelines.mirror.cache import (
    ENDING,
    LOCK,
    READERS,
    SOURCE,
    cache_root,
    make_way,
    writing,
)
from slipform.pipelines.remote.client import is_remote
from slipform.pipelines.remote.store import Store, open_store

__all__ = ["Mirror", "local_folder", "open_mirror", "source_of"]

PRESENT = "present"  # a byte for each sample of the dataset: 1 if its bytes are in the mirror
_MAX_SOURCE = 1 << 16  # bytes of source.json


def local_folder(folder: Path | str) -> Path:
    """The folder on this machine from which a dataset is read.

    Args:
        folder: A local dataset folder, or a URL: s3://, gs://, az://, http://, https://.

    Returns:
        A local folder as it is. For a URL its mirror, which is made if it is missing.

    Raises:
        ConfigError: The URL has no such form, or has a password or a signature.
        StorageError: The object store cannot be read.
        DatasetError: There is no complete dataset.
    """
    if not is_remote(folder):
        return Path(folder)
    store = open_store(str(folder))
    content = download_manifest(store)
    manifest = parse_manifest(content, f"{store.url}/{FILE_NAME}")
    root = cache_root()
    mirror = root / _name(store, content)
    source = {"url": store.url, "identity": store.identity}
    with writing(root):
        mirror.mkdir(parents=True, exist_ok=True)
        with locked(root / LOCK, "another process", wait=True):
            (mirror / READERS).mkdir(parents=True, exist_ok=True)
            with locked(mirror / LOCK, "another process", wait=True):
                if not _is_complete(mirror, source, content):
                    write_whole(mirror / FILE_NAME, content)
                    write_whole(mirror / SOURCE, json.dumps(source) + "\n")
            os.utime(mirror / SOURCE)
            make_way(root, mirror, _num_bytes(manifest))
    return mirror


def source_of(folder: Path) -> str:
    """Where a dataset folder comes from, for records of a run.

    Args:
        folder: A dataset folder.

    Returns:
        The URL of a mirror, which has no credentials; else the absolute path of the folder.
    """
    source = _read_source(folder)
    return source["url"] if source else str(folder.resolve())


def open_mirror(folder: Path, manifest: Manifest) -> Mirror | None:
    """Open the mirror in a folder.

    Args:
        folder: A dataset folder.
        manifest: Its manifest.

    Returns:
        None: the folder is no mirror, and has all of its bytes.

    Raises:
        StorageError: The environment has other settings than when the mirror was made.
    """
    source = _read_source(folder)
    if source is None:
        return None
    store = open_store(source["url"])
    if store.identity != source["identity"]:
        raise StorageError(
            f"{folder} is the cache of {source['identity']}, and the environment names"
            f" {store.identity}. Give {store.url} instead of this folder."
        )
    return Mirror(folder, manifest, store)


def _name(store: Store, content: bytes) -> str:
    """A readable name, and what tells this server, URL and dataset from all others."""
    key = hashlib.sha256(store.identity.encode() + b"\n" + content).hexdigest()[:16]
    words = re.sub(r"[^A-Za-z0-9.]+", "-", store.url.partition("://")[2])
    return f"{words.strip('-.')[-60:]}-{key}"


def _is_complete(mirror: Path, source: dict[str, str], content: bytes) -> bool:
    path = mirror / FILE_NAME
    return _read_source(mirror) == source and path.exists() and path.read_bytes() == content


def _read_source(folder: Path) -> dict[str, str] | None:
    path = folder / SOURCE
    if not os.path.exists(path):
        return None
    try:
        found = json.loads(read_regular(path, _MAX_SOURCE, "a URL", DatasetError))
        return {"url": str(found["url"]), "identity": str(found["identity"])}
    except (ValueError, KeyError, TypeError):
        return None  # damaged: local_folder writes it again


def _num_bytes(manifest: Manifest) -> int:
    return sum(one.bytes for info in manifest.splits.values() for one in info.files)


class Mirror:
    """A mirror, and the numbers of the samples of its dataset. `open_mirror` makes it.

    All samples of all splits have one numbering, in the order of the manifest. Processes share
    their states by it.

    Args:
        folder: The folder.
        manifest: The manifest of the dataset.
        store: The folder of the dataset in the object store.

    Attributes:
        folder, manifest, store: As given.
        files: The betons of all splits.
        firsts: int64 [F + 1], the number of the first sample of each beton, and of all samples.
        num_bytes: The size of all betons.
    """

    def __init__(self, folder: Path, manifest: Manifest, store: Store) -> None:
        self.folder, self.manifest, self.store = folder, manifest, store
        self.files = [one for info in manifest.splits.values() for one in info.files]
        if foreign := [one.file for one in self.files if not one.file.endswith(ENDING)]:
            raise DatasetError(
                f"{store.url}: {printable(foreign[0])} does not end with {ENDING}, as betons in an"
                " object store must"
            )
        self.firsts: npt.NDArray[np.int64] = np.cumsum([0, *(f.num_samples for f in self.files)])
        self.num_bytes = _num_bytes(manifest)

    @cached_property
    def present(self) -> npt.NDArray[np.uint8]:
        """uint8 [M]: 1 for each sample whose bytes are here. All processes see the same memory.

        It says where bytes were written. Whether they are right, only their checksums say.
        """
        return self.shared_bytes(self.folder / PRESENT)

    def shared_bytes(self, path: Path) -> npt.NDArray[np.uint8]:
        """A byte for each sample, in a file that is mapped. New files have zeros.

        Args:
            path: The file.

        Raises:
            OSError: The disk is full or fails.
        """
        size = max(1, int(self.firsts[-1]))
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        with os.fdopen(handle, "r+b") as file:
            if os.fstat(handle).st_size != size:
                os.ftruncate(handle, 0)
            # Without blocks of its own on a full disk, a write to the map would end the process.
            os.posix_fallocate(handle, 0, size)
            return np.memmap(file, np.uint8, "r+", shape=(size,))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of this mirror. Short: other processes wait for it."""
        with locked(self.folder / LOCK, "another process", wait=True):
            yield

    def room(self) -> int:
        """The bytes that the betons of this mirror may take on the disk.

        Raises:
            StorageError: Other mirrors, which are in use, take all.
        """
        root = self.folder.parent
        with locked(root / LOCK, "another process", wait=True):
            return make_way(root, self.folder, self.num_bytes)

    def numbers_of(self, files: Sequence[BetonInfo]) -> npt.NDArray[np.int64]:
        """The numbers of the samples of betons, one beton after another.

        Args:
            files: Some of `files`.
        """
        at = {one.file: number for number, one in enumerate(self.files)}
        found = [at[one.file] for one in files]
        parts = [np.arange(self.firsts[k], self.firsts[k + 1]) for k in found]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)
