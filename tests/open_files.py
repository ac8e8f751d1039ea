"""What this process has open: files, pipes, sockets. Tests compare names: the number of descriptors
also changes with those that an earlier test left, and a number is soon used again."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def open_names() -> list[str]:
    """A path, or "pipe:[N]" or "socket:[N]", for each open descriptor. Others never have that N
    while it is open."""
    found = []
    for handle in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the one of `listdir`
            found.append(os.readlink(f"/proc/self/fd/{handle}"))
    return found


def open_files(folder: Path) -> list[str]:
    """The paths of the files below a folder that are open, also those that were deleted."""
    return [path for path in open_names() if path.startswith(f"{folder}/")]
