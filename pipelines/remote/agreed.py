"""Bytes that no checksum covers, read until two answers agree: `agreed`.

In: a call that reads. Out: bytes that came twice. dataset.json holds the checksums of everything
else, and nothing holds its own. A byte that changed on the way thus has to change in the same way
twice. These files are small.
"""

from __future__ import annotations

from collections.abc import Callable

from slipform.pipelines.errors import StorageError

__all__ = ["agreed"]

_TRIES = 4


def agreed(read: Callable[[], bytes], place: str) -> bytes:
    """Read until two answers in a row are equal.

    Args:
        read: Reads the bytes from the server.
        place: The URL, for the message.

    Raises:
        StorageError: Each answer differs from the one before.
    """
    last = read()
    for _ in range(_TRIES):
        again = read()
        if again == last:
            return again
        last = again
    raise StorageError(
        f"{place} gave other bytes in each of {_TRIES + 1} answers. If it is being written, wait"
        " until that ends. Otherwise something between this machine and the server damages answers."
    )
