"""Samples of several betons as if they were one: `BetonView`.

In: open betons, and a choice of their samples. Out: the interface of `Beton` for these samples. No
bytes are copied.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from slipform.pipelines.beton import Beton, FilePart

__all__ = ["BetonView"]


class BetonView(Beton):
    """Chosen samples of betons, numbered from 0.

    Args:
        parts: The betons. Their samples are counted one beton after another.
        samples: int64 [N], which of them the view has, in its order.

    Attributes:
        path: Where the betons are: FOLDER/train.beton+val.beton, for messages.
    """

    def __init__(self, parts: Sequence[Beton], samples: npt.NDArray[np.int64]) -> None:
        starts = np.cumsum([0, *(len(part) for part in parts)])
        self._parts, self._part = list(parts), np.searchsorted(starts, samples, "right") - 1
        self._index = samples - starts[self._part]
        self.path = parts[0].path.with_name("+".join(part.path.name for part in parts))
        chosen = hashlib.sha256(np.ascontiguousarray(samples, np.int64).data).digest()
        identity = [number for part in parts for number in part.identity]
        self.identity = (*identity, int.from_bytes(chosen[:8], "little"))
        self.labels, self.modes, self.heights, self.widths, self.sizes, self.addresses = (
            np.concatenate([getattr(part, name) for part in parts])[samples]
            for name in ("labels", "modes", "heights", "widths", "sizes", "addresses")
        )

    def bytes_of(self, index: int) -> npt.NDArray[np.uint8]:
        """See `Beton`."""
        return self._parts[self._part[index]].bytes_of(self._index[index])

    def place(self, index: int) -> tuple[Path, int]:
        """The beton that has a sample, and the position of the sample in it, for messages.

        Args:
            index: Position of the sample.
        """
        return self._parts[self._part[index]].path, int(self._index[index])

    def files_of(self, indices: npt.NDArray[np.int64]) -> Iterator[FilePart]:
        """See `Beton`."""
        for number, part in enumerate(self._parts):
            at = np.flatnonzero(self._part[indices] == number)
            if len(at):
                yield at, part.data, part.offsets[self._index[indices[at]]]

    def release_pages(self) -> None:
        """See `Beton`."""
        for part in self._parts:
            part.release_pages()

    def check_length(self) -> None:
        """See `Beton`."""
        for part in self._parts:
            part.check_length()

    def read_crc32(self) -> npt.NDArray[np.uint32]:
        """See `Beton`. Betons of ffcv have no table: the view then has none."""
        tables = [part.read_crc32() for part in self._parts]
        if any(len(table) != len(part) for table, part in zip(tables, self._parts, strict=True)):
            return np.zeros(0, np.uint32)
        starts = np.cumsum([0, *(len(part) for part in self._parts)])
        return np.concatenate(tables)[starts[self._part] + self._index]

    def check_crc32(self, index: int) -> None:
        """See `Beton`. The error names the beton, and the position of the sample in it."""
        self._parts[self._part[index]].check_crc32(int(self._index[index]))
