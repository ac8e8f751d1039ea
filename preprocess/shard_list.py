"""The list of all samples, as far as all shards have it in common: `ShardList`.

In: a SampleSource. Out: the bytes of each sample, and the hash of the list. A source is asked for
them once, however many shards are written. A list may be sent to other processes.
"""

from __future__ import annotations

import hashlib
from functools import cached_property

import numpy as np
import numpy.typing as npt

from slipform.pipelines.together import together
from slipform.preprocess.source import Samples, SampleSource, Sized

__all__ = ["ShardList"]

# Threads that ask for the sizes of files, for slow file systems; and files that each asks for.
_READERS, _ASKED = 32, 256


class ShardList:
    """The samples of all shards.

    Args:
        source: The samples.

    Attributes:
        source: The samples.
    """

    def __init__(self, source: SampleSource) -> None:
        self.source = source

    @cached_property
    def sizes(self) -> dict[str, npt.NDArray[np.int64]]:
        """The bytes of each sample by split. If a source does not know them, all are equal."""
        return {split: _sizes_of(samples) for split, samples in self.source.splits.items()}

    @cached_property
    def sha256(self) -> str:
        """The hash of names, labels and sizes of all samples."""
        digest = hashlib.sha256()
        for split, samples in self.source.splits.items():
            digest.update(f"{split} {len(samples.labels)}\n".encode())
            for index in range(len(samples.labels)):
                # A list may name files with characters that UTF-8 does not have.
                digest.update(samples.name(index).encode("utf-8", "surrogatepass") + b"\0")
            digest.update(np.ascontiguousarray(samples.labels, "<i8").data)
            digest.update(np.ascontiguousarray(self.sizes[split], "<i8").data)
            if samples.table is not None:
                digest.update(np.ascontiguousarray(samples.table.rows).view(np.uint8).data)
        return digest.hexdigest()

    def complete(self) -> ShardList:
        """Ask for all that is known only on request, so that a copy needs not ask again.

        Returns:
            This list.
        """
        self.sha256  # noqa: B018  (it is kept, and the sizes are, too)
        return self


def _sizes_of(samples: Samples) -> npt.NDArray[np.int64]:
    count = len(samples.labels)
    if not isinstance(samples, Sized):
        return np.ones(count, np.int64)
    num_bytes, found = samples.num_bytes, np.zeros(count, np.int64)

    def ask(start: int) -> None:
        for index in range(start, min(start + _ASKED, count)):
            found[index] = num_bytes(index)

    together(ask, range(0, count, _ASKED), _READERS, "the sizes of the source files")
    return found
