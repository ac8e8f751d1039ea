"""A file whose reader is watched: `CountedFile`, for the progress of an upload.

In: a path and a function. Out: a binary file that reports how many bytes are read from it.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

__all__ = ["CountedFile"]


class CountedFile(io.FileIO):
    """A file that reports how many bytes are read from it.

    Args:
        path: The file.
        progress: Called with the number of bytes of each read.

    Attributes:
        count: The number of bytes that were read.

    Raises:
        OSError: The file cannot be opened.
    """

    def __init__(self, path: Path, progress: Callable[[int], None]) -> None:
        super().__init__(path)
        self._progress, self.count = progress, 0

    def read(self, size: int | None = -1, /) -> bytes:
        """Read from the file.

        Args:
            size: The largest number of bytes; -1 or None: all.
        """
        content = super().read(-1 if size is None else size) or b""
        self.count += len(content)
        self._progress(len(content))
        return content
