"""Damaged samples: found when first read, named with index and class.

In: a beton and the positions of a batch. Out: which of them are bad, or a SampleError where they
are not to be skipped.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from slipform.pipelines.beton import RAW, Beton
from slipform.pipelines.decoding.jpeg_header import header_size
from slipform.pipelines.errors import SampleError

# The emptiest whole JPEG (progressive, one gray) codes 64 pixels in one bit: 512 in a byte.
_PIXELS_PER_BYTE = 1024


class FirstRead:
    """Compares each sample's CRC-32 once, when it is first met: later epochs read the same pages
    again."""

    def __init__(self, beton: Beton, on_bad: str) -> None:
        self._beton, self.skips = beton, on_bad == "skip"
        self._checked = np.zeros(len(beton), bool)
        beton.read_crc32()  # of the same moment as the beton, before any thread asks for it

    def bad(self, indices: npt.NDArray[np.int64]) -> list[int]:
        """Positions in `indices` (int64 [N]) of samples whose bytes are damaged."""
        bad = []
        for i in np.flatnonzero(~self._checked[indices]):
            try:
                self._beton.check_crc32(int(indices[i]))
                self._check_declared(int(indices[i]))
                self._checked[indices[i]] = True
            except SampleError:
                if not self.skips:
                    raise
                bad.append(int(i))
        return bad

    def _check_declared(self, index: int) -> None:
        """A decoder takes as much memory as a JPEG's header says: no more than the beton says, nor
        than its bytes can hold."""
        beton = self._beton
        if beton.modes[index] == RAW:
            return
        height, width = header_size(beton.bytes_of(index))
        own = int(beton.heights[index]) * int(beton.widths[index])
        if height * width > min(own, _PIXELS_PER_BYTE * int(beton.sizes[index])):
            raise SampleError(
                f"sample {index} of {beton.path} is damaged: its {beton.sizes[index]} bytes declare"
                f" {width} x {height} pixels, the beton {beton.widths[index]} x"
                f" {beton.heights[index]}. Run: prep verify {beton.path.parent}",
                index,
                int(beton.labels[index]),
            )

    def undecodable(self, indices: npt.NDArray[np.int64], positions: list[int]) -> list[int]:
        """The same positions again, for a decoder that failed at them; raises for the first where
        nothing is skipped."""
        if positions and not self.skips:
            index = int(indices[positions[0]])
            label, path = int(self._beton.labels[index]), self._beton.path
            raise SampleError(
                f"sample {index} (class {label}) of {path} cannot be decoded. Run: prep verify"
                f" {path.parent}",
                index,
                label,
            )
        return positions
