"""A message for a mapped file that was truncated while it was read.

In: mapped files. Out: nothing, as long as they keep their length. A read beyond the end of a mapped
file causes SIGBUS, which ends the process without a message. This module ends it with exit code 1
and a message that names the file.
"""

from __future__ import annotations

import ctypes
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Protocol
from weakref import ref

__all__ = ["Truncated", "Watched", "watch"]


@dataclass(frozen=True)
class Truncated:
    """A mapped file that is shorter than when it was mapped.

    Attributes:
        path: The file.
        left: Its length now, in bytes.
        length: Its length when it was mapped, in bytes.
    """

    path: Path
    left: int
    length: int


class Watched(Protocol):
    """Mapped files."""

    def truncated(self) -> Truncated | None:
        """The first file that was truncated after it was mapped."""


_LIBC = ctypes.CDLL(None)
_watched: set[ref[Watched]] = set()
_first = Lock()  # several threads may read the file


def watch(files: Watched) -> None:
    """Name a file in the message if it is truncated while it is read.

    An existing handler of SIGBUS, such as that of faulthandler, is kept. It then decides what is
    printed.

    Args:
        files: The mapped files.
    """
    _watched.add(ref(files, _watched.discard))
    if not _is_handled():
        _LIBC.signal(int(signal.SIGBUS), _end)


def _is_handled() -> bool:
    """Whether a handler is set. Python knows only of those that it has set itself."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    caught = next((line for line in status.splitlines() if line.startswith("SigCgt:")), "SigCgt: 0")
    return bool(int(caught.split()[1], 16) >> (signal.SIGBUS - 1) & 1)


def _first_cut() -> Truncated | None:
    """The first file that was truncated.

    Other threads may open files and free them meanwhile. `list` of a set is one step.
    """
    for one in list(_watched):
        files = one()
        if files is not None and (cut := files.truncated()):
            return cut
    return None


# Python's own signal handlers run later, between bytecodes. The failed read never returns, so they
# would never run. A C callback runs at once. It may run Python code: the thread was reading mapped
# memory, so it holds no lock of the interpreter or of malloc.
@ctypes.CFUNCTYPE(None, ctypes.c_int)
def _end(number: int) -> None:
    """Print which file was truncated, and end the process. Otherwise let the signal end it."""
    if not _first.acquire(blocking=False):
        return  # another thread ends the process; until then this one repeats its read
    try:
        if cut := _first_cut():
            message = (
                f"\nError: {cut.path} was truncated while it was read: {cut.left} of {cut.length}"
                " bytes are left. Run prep again. A training continues with: train --resume RUN\n"
            )
            os.write(2, message.encode(errors="backslashreplace"))
            os._exit(1)
    finally:
        _LIBC.signal(number, None)
        _first.release()
