"""A dataset in an object store is replaced as a whole, by one of several preps.

In: the files of a dataset, and the names of the objects that were there before. Out: the objects.
The last one is dataset.json. Objects have no rename, so there is no dataset until then.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from slipform.pipelines.errors import DatasetError
from slipform.pipelines.manifest import FILE_NAME
from slipform.pipelines.remote.store import Store
from slipform.preprocess.atomic_folder import completes
from slipform.preprocess.claim import CLAIM, is_trial, make_claim, new_claim, read_claim

__all__ = ["Before", "in_order", "replace_objects", "state_of"]

_CHOOSE = "Nothing more was written by this one. Choose another folder for --out."


class Before(NamedTuple):
    """What is in a folder of a store before a prep writes to it.

    Attributes:
        names: The names of all objects. Those of trials, which others may make, are left out.
        claim: The claim of an upload that has not ended, or of shards. None: there is none.
    """

    names: frozenset[str]
    claim: bytes | None


def state_of(store: Store) -> Before:
    """List what is in a folder now.

    Args:
        store: The folder of the store.

    Raises:
        StorageError: The server does not answer, or cannot list.
    """
    names = _lasting(store)
    return Before(names, read_claim(store) if CLAIM in names else None)


def _lasting(store: Store) -> frozenset[str]:
    """The names of all objects but those of trials."""
    return frozenset(name for name in store.names() if not is_trial(name))


def in_order(folder: Path, last: str) -> list[Path]:
    """The files of a folder in the order in which they are sent.

    Args:
        folder: The folder.
        last: The name of the file that says that the others are complete.
    """
    return sorted(folder.iterdir(), key=lambda path: (path.name == last, path.name))


def replace_objects(
    store: Store, before: Before, folder: Path, send: Callable[[Path, int], None]
) -> None:
    """Upload a dataset, and delete what was there before.

    A prep that does not say --overwrite comes to its end, or changes nothing. One that says it may
    end another one, which then takes back its last object: that may have replaced a new one.

    Args:
        store: The folder of the store.
        before: What was there before the dataset was made.
        folder: The files of the dataset.
        send: send(path, total) uploads a file; `total` are the bytes of all files.

    Raises:
        DatasetError: Another prep writes to the folder.
        StorageError: The upload failed.
    """
    claim, old = new_claim(), before.names
    if before.claim is not None and read_claim(store) == before.claim:
        store.delete([CLAIM])
    if make_claim(store, claim) != claim:
        raise _other(store, "is uploading to it")
    if {*_lasting(store), CLAIM} != {*old, CLAIM}:
        store.delete([CLAIM])
        raise _other(store, "has written to it in the meantime")
    paths = in_order(folder, FILE_NAME)
    sizes = {path.name: path.stat().st_size for path in paths}
    store.delete(name for name in sorted(old) if completes(name))
    for path in paths:
        if path.name == FILE_NAME:
            store.delete(sorted(old - {*sizes, CLAIM}))
            _check(store, sizes)
        send(path, sum(sizes.values()))
        if read_claim(store) != claim:
            store.delete([path.name])
            raise _other(store, "with --overwrite has begun to upload to it")
    store.delete([CLAIM])


def _check(store: Store, sizes: dict[str, int]) -> None:
    """Another prep that took back its last object may have deleted one of this prep."""
    found = store.sizes()
    if any(found.get(name) != size for name, size in sizes.items() if name != FILE_NAME):
        raise _other(store, "has changed it")


def _other(store: Store, what: str) -> DatasetError:
    return DatasetError(f"{store.url}: another prep {what}. {_CHOOSE}")
