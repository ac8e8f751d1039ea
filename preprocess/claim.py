"""Which prep writes to a folder of an object store: the object prep.json, a claim.

In: the store, and the content of a claim. Out: nothing, or the claim of another prep.

An object store has no locks. But it writes an object only if there is none with its name, in one
request (`Store.create`). So one of several preps makes the claim, and the others see it. A prep of
a whole dataset deletes its claim at the end. A claim of shards says what all of them have in
common, and stays.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
from contextlib import suppress
from datetime import UTC, datetime

from slipform.pipelines.errors import MissingObjectError, StorageError, printable
from slipform.pipelines.remote.agreed import agreed
from slipform.pipelines.remote.store import Store

__all__ = [
    "CLAIM",
    "check_rights",
    "is_trial",
    "make_claim",
    "new_claim",
    "read_claim",
    "writer_of",
]

CLAIM = "prep.json"
_TRIAL = re.compile(r"prep-trial-[0-9a-f]{16}\.txt")  # such an object exists for a moment
_MAX_BYTES = 1 << 26  # of a claim: names of classes


def check_rights(store: Store, *, deletes: bool) -> None:
    """Write an object and delete it. A prep of hours fails before its work if it may not do so.

    Args:
        store: The folder.
        deletes: Whether the prep must be able to delete. If not, the object may stay.

    Raises:
        StorageError: The object store cannot be written.
    """
    # Stores limit how often one object is written, and many preps of shards begin together.
    name = f"prep-trial-{secrets.token_hex(8)}.txt"
    store.put(name, b"prep tests whether it may write and delete here\n")
    if deletes:  # also those of preps that were not allowed to
        store.delete({name, *filter(is_trial, store.names())})
        return
    with suppress(StorageError):
        store.delete([name])


def is_trial(name: str) -> bool:
    """Whether an object is that of a trial.

    Args:
        name: Its name in the folder.
    """
    return bool(_TRIAL.fullmatch(name))


def new_claim() -> bytes:
    """The claim of a prep that writes a dataset without shards. Each call gives another one."""
    return json.dumps(
        {
            "host": socket.gethostname(),
            "process": os.getpid(),
            "since": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            "number": secrets.token_hex(16),
        }
    ).encode()


def make_claim(store: Store, claim: bytes) -> bytes:
    """Claim a folder.

    Args:
        store: The folder.
        claim: The content of the claim.

    Returns:
        The claim that is valid now. If it is not `claim`, another prep was earlier.

    Raises:
        StorageError: The object store cannot be read or written.
    """
    while not store.create(CLAIM, claim):
        if (found := read_claim(store)) is not None:
            return found
    return claim


def read_claim(store: Store) -> bytes | None:
    """The claim of a folder. None: there is none.

    Args:
        store: The folder.

    Raises:
        StorageError: The object store cannot be read.
    """
    try:
        return agreed(lambda: store.read(CLAIM, _MAX_BYTES), f"{store.url}/{CLAIM}")
    except MissingObjectError:
        return None


def writer_of(claim: bytes) -> str:
    """Who made a claim of a dataset without shards: its computer, its process, and when it began.

    Args:
        claim: The claim. Anybody may have written it.

    Returns:
        Words for messages. "": it is another claim.
    """
    try:
        found = json.loads(claim)
        words = f"process {found['process']} on {found['host']}, since {found['since']}"
    except (ValueError, TypeError, KeyError, RecursionError):
        return ""
    return printable(words[:200])
