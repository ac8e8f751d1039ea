"""A request that is repeated until it succeeds, cannot succeed, or the patience ends: `repeated`.

In: a call to obstore, and what it asks for. Out: its result, or an error with the cause and the
next step.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from slipform.pipelines.errors import Interrupted, MissingObjectError, StorageError, printable
from slipform.pipelines.remote.failures import advice, cause_of, is_final
from slipform.pipelines.stopping import interruptible, pause

__all__ = ["FIRST_PAUSE", "Request", "repeated"]

FIRST_PAUSE = 0.1  # seconds before a failed request is repeated; later pauses are longer
_LONGEST_PAUSE = 5.0  # seconds
# Many workers that fail together do not come back together.
_JITTER = random.Random(os.getpid())
_T = TypeVar("_T")


class Request(NamedTuple):
    """What is asked for, for the texts of errors.

    Attributes:
        verb: "GET", "HEAD", "LIST", "PUT" or "DELETE".
        folder: The URL of the folder, without credentials.
        server: The server in parentheses; "": the usual one.
        name: The name of the object in the folder; "": none.
        what: Further words.
    """

    verb: str
    folder: str
    server: str
    name: str = ""
    what: str = ""

    @property
    def place(self) -> str:
        """The URL of the object."""
        return printable(f"{self.folder}/{self.name}" if self.name else self.folder)

    def __str__(self) -> str:
        return f"{self.verb} {self.place}{self.what}"


def repeated(once: Callable[[], _T], request: Request, patience: float) -> _T:
    """Call until it succeeds, cannot succeed, or the patience ends.

    Args:
        once: The call.
        request: What it asks for.
        patience: Seconds in which it is repeated.

    Raises:
        MissingObjectError: There is no such object.
        StorageError: It failed.
        Interrupted: This process is asked to stop, and this is its main thread.
    """
    place, server = request.place, request.server
    begin, tries = time.monotonic(), 0
    while True:
        tries += 1
        try:
            return interruptible(once, place)
        except Interrupted:
            raise
        except Exception as error:  # the classes of obstore have no common base
            if isinstance(error, OSError) and error.errno is not None:
                raise  # of a local file
            cause = cause_of(error)
            missing = isinstance(error, FileNotFoundError)
            no_bucket = missing and ("NoSuchBucket" in cause or request.verb in ("LIST", "PUT"))
            if missing and not no_bucket:
                raise MissingObjectError(
                    f"{place} does not exist{server}: {cause}. Check the URL. If an upload was"
                    " interrupted, run it again."
                ) from None
            final = isinstance(error, OSError | ValueError) or is_final(error)
        passed = time.monotonic() - begin
        if final or passed >= patience:
            times = f"{tries} time{'s' if tries > 1 else ''} in {passed:.1f} s"
            raise StorageError(
                f"{request} failed{server}: {cause}. Tried {times}."
                f" {advice(cause, request.folder, no_bucket)}."
            ) from None
        wait = min(_LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(tries, 16))
        pause(min(wait * _JITTER.uniform(0.5, 1.0), patience - passed), place)
