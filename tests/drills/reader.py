"""`Reader`: a reader of files, as the drills use it.

In: nothing. Out: `Reader`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Reader:
    """read: reads the file and asserts that the result is right. head: the number of bytes at the
    front that half of the mutations change."""

    name: str
    file: Path
    read: Callable[[], None]
    head: int = 400
