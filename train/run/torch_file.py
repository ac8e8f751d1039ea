"""A file for torch.save that reports the system's error, such as a full disk.

In: a path. Out: a file object for torch.save, with the CRC-32 of its bytes. If a write failed,
the end of the block raises the system's error.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

__all__ = ["TorchFile", "torch_file"]


class TorchFile:
    """A file object that keeps the first error of a write instead of raising it.

    torch's zip writer turns a failed write into an error without the system's reason. Its
    destructor can abort the process if further writes fail. A write after a failed one therefore
    does nothing.

    Args:
        file: The file, opened for writing bytes.

    Attributes:
        crc: The CRC-32 of the bytes so far. torch writes from front to back.
        error: The first error of a write; None if there was none.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.crc = 0
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        """Write bytes, unless an earlier write failed.

        Args:
            data: The bytes.

        Returns:
            The number of bytes in `data`.
        """
        self.crc = zlib.crc32(data, self.crc)
        self._do(self._file.write, data)
        return len(data)

    def flush(self) -> None:
        """Flush the file, unless an earlier write failed."""
        self._do(self._file.flush)

    def _do(self, what: Any, *arguments: bytes) -> None:
        if self.error is None:
            try:
                what(*arguments)
            except OSError as error:
                self.error = error


@contextmanager
def torch_file(path: Path) -> Iterator[Any]:
    """Open a file as a `TorchFile`.

    Args:
        path: The file to write; it is complete at the end of the block.

    Yields:
        The TorchFile, typed Any: torch's types ask for IO[bytes], but it uses write and flush only.

    Raises:
        OSError: A write failed; raised at the end of the block.
    """
    with open(path, "wb") as file:
        wrapped = TorchFile(file)
        yield wrapped
        wrapped.flush()
        if wrapped.error is not None:
            raise wrapped.error
