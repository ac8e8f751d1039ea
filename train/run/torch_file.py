"""A file that torch can write to on a full disk.

In: a path. Out: an object for torch.save or torch.export.save, which knows the CRC-32 of its bytes;
afterwards the system's own error, where a write failed.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


class TorchFile:
    """A file that fails at the end.

    torch's zip writer turns a failed write into an error without the system's reason, and its
    destructor can abort the process when writes go on failing. So a write after a failed one does
    nothing; `error` holds the first failure.

    Attributes:
        crc: The CRC-32 of the bytes so far; torch writes front to back, nothing is read again.
        error: Why a write failed; None where none did.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.crc = 0
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        self.crc = zlib.crc32(data, self.crc)
        self._do(self._file.write, data)
        return len(data)

    def flush(self) -> None:
        self._do(self._file.flush)

    def _do(self, what: Any, *arguments: bytes) -> None:
        if self.error is None:
            try:
                what(*arguments)
            except OSError as error:
                self.error = error


@contextmanager
def torch_file(path: Path) -> Iterator[Any]:
    """Open `path` as a TorchFile.

    Args:
        path: The file to write; it is not whole before the block has ended.

    Yields:
        The TorchFile. It is typed Any: torch asks for IO[bytes], and uses write and flush alone.

    Raises:
        OSError: The first write that failed, at the end of the block.
    """
    with open(path, "wb") as file:
        wrapped = TorchFile(file)
        yield wrapped
        wrapped.flush()
        if wrapped.error is not None:
            raise wrapped.error
