"""What a reader of files is to the drills.

In: nothing. Out: `Reader`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Reader:
    """read: reads the file, asserts what a right result is. head: bytes at the front that matter
    most, which half of the mutations hit."""

    name: str
    file: Path
    read: Callable[[], None]
    head: int = 400
