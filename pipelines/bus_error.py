"""A message for a mapped file that was truncated while it was read.

In: mapped files. Out: nothing, as long as they keep their length. A read beyond the end of a mapped
file causes SIGBUS, which ends the process without a message. This module ends it with exit code 1
and a message that names the file.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
from pathlib import Path
from threading import Lock
from weakref import WeakKeyDictionary

__all__ = ["watch"]

_LIBC = ctypes.CDLL(None)
_files: WeakKeyDictionary[mmap.mmap, Path] = WeakKeyDictionary()
_first = Lock()  # several threads may read the file


def watch(mapped: mmap.mmap, path: Path) -> None:
    """Name a file in the message if it is truncated while it is read.

    An existing handler of SIGBUS, such as that of faulthandler, is kept. It then decides what is
    printed.

    Args:
        mapped: The map of the whole file.
        path: Path of the file.
    """
    _files[mapped] = path
    if not _is_handled():
        _LIBC.signal(int(signal.SIGBUS), _end)


def _is_handled() -> bool:
    """Whether a handler is set. Python knows only of those that it has set itself."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    caught = next((line for line in status.splitlines() if line.startswith("SigCgt:")), "SigCgt: 0")
    return bool(int(caught.split()[1], 16) >> (signal.SIGBUS - 1) & 1)


# Python's own signal handlers run later, between bytecodes. The failed read never returns, so they
# would never run. A C callback runs at once. It may run Python code: the thread was reading mapped
# memory, so it holds no lock of the interpreter or of malloc.
@ctypes.CFUNCTYPE(None, ctypes.c_int)
def _end(number: int) -> None:
    """Print which file was truncated, and end the process. Otherwise let the signal end it."""
    if not _first.acquire(blocking=False):
        return  # another thread ends the process; until then this one repeats its read
    for mapped, path in list(_files.items()):
        left, length = mapped.size(), len(mapped)
        if left < length:
            message = (
                f"\nError: {path} was truncated while it was read: {left} of {length} bytes are"
                " left. Run prep again. A training continues with: train --resume RUN\n"
            )
            os.write(2, message.encode(errors="backslashreplace"))
            os._exit(1)
    _LIBC.signal(number, None)
    _first.release()
