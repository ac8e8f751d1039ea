"""Errors of archives.

In: what the readers of archives raise. Out: a DatasetError, or the error of the disk.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slipform.pipelines.errors import DatasetError, SlipformError, printable

__all__ = ["Hostile", "errors_of"]

# The error numbers (errno) that a damaged archive causes. Errors without a number come from the
# readers. Errors with any other number come from the disk.
_ARCHIVES_FAULT = {
    None,
    errno.EINVAL,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
}


class Hostile(DatasetError):
    """An archive has content that no dataset has. The message does not name the archive."""


@contextmanager
def errors_of(archive: Path) -> Iterator[None]:
    """What an archive causes within the block becomes a DatasetError. Errors of the disk stay.

    Args:
        archive: The file, for the message.

    Raises:
        DatasetError: The archive is damaged or hostile.
        OSError: The disk fails.
    """
    try:
        yield
    except Hostile as error:
        raise DatasetError(f"{archive}: {printable(error.message)}. Do not trust it.") from None
    except (SlipformError, MemoryError):
        raise
    except Exception as error:  # the readers raise many classes of exceptions for damaged files
        if getattr(error, "errno", None) not in _ARCHIVES_FAULT:
            raise
        raise DatasetError(
            f"{archive} is damaged: {printable(str(error))}. Download it again."
        ) from None
