"""Detection of damaged samples when they are read for the first time.

In: a beton and the indices of a batch. Out: the positions of bad samples. If bad samples are not
skipped: a SampleError with the index and the class.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from slipform.pipelines.beton import Beton
from slipform.pipelines.beton_format import RAW
from slipform.pipelines.decoding.crc32 import crc32_of
from slipform.pipelines.decoding.jpeg_header import header_size
from slipform.pipelines.errors import SampleError

__all__ = ["FirstRead"]

_SMALL = 4096  # bytes: the kernel takes 2.5 us for them, zlib 1.1 us and 1.6 us for its call


class FirstRead:
    """Compares the CRC-32 of each sample when it is read for the first time, and not again.

    Args:
        beton: The stored split.
        on_bad: "error": a bad sample raises SampleError. "skip": it is reported.

    Attributes:
        skips: True if on_bad is "skip".
    """

    def __init__(self, beton: Beton, on_bad: str) -> None:
        self._beton, self.skips = beton, on_bad == "skip"
        self._checked = np.zeros(len(beton), bool)
        # Whether all samples were read. To look at all takes long, so it is done only after as many
        # reads as there are samples.
        self._has_all, self._asked = False, 0
        beton.read_crc32()  # now, so that the table belongs to the beton that was opened

    def has_read(self, indices: npt.NDArray[np.int64]) -> bool:
        """Whether all of these samples were read before, and were sound.

        Args:
            indices: int64 [N], the samples of a batch.
        """
        self._asked += len(indices)
        if not self._has_all and self._asked >= len(self._checked):
            self._has_all, self._asked = bool(self._checked.all()), 0
        return self._has_all or bool(self._checked[indices].all())

    def bad(self, indices: npt.NDArray[np.int64]) -> list[int]:
        """Find the samples whose bytes are damaged.

        Args:
            indices: int64 [N], the samples of a batch.

        Returns:
            Positions in `indices`.

        Raises:
            SampleError: A sample is damaged, and on_bad is "error".
        """
        if self.has_read(indices):
            return []
        self._pass_sound(indices[~self._checked[indices]])
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

    def _pass_sound(self, indices: npt.NDArray[np.int64]) -> None:
        """Mark small raw samples whose checksums are right. zlib is faster for large ones.

        Other samples are checked one by one, for the message.
        """
        beton, table = self._beton, self._beton.read_crc32()
        if not (len(indices) and table.size and beton.stays):
            return  # bytes that are not on this machine are fetched one by one
        small = (beton.modes[indices] == RAW) & (beton.sizes[indices] <= _SMALL)
        raw = indices[small]
        found = crc32_of(beton.data, beton.offsets[raw], beton.sizes[raw])
        self._checked[raw[found == table[raw]]] = True

    def _check_declared(self, index: int) -> None:
        """Check that a JPEG's header declares no more pixels than the beton.

        A decoder allocates what the header declares. `Beton` has checked the sizes that it stores.
        """
        beton = self._beton
        if beton.modes[index] == RAW:
            return
        height, width = header_size(beton.bytes_of(index))
        if height * width > int(beton.heights[index]) * int(beton.widths[index]):
            path, place = beton.place(index)
            raise SampleError(
                f"sample {place} of {path} is damaged: its {beton.sizes[index]} bytes declare"
                f" {width} x {height} pixels, the beton {beton.widths[index]} x"
                f" {beton.heights[index]}. Run: prep verify {path.parent}",
                place,
                int(beton.labels[index]),
            )

    def undecodable(self, indices: npt.NDArray[np.int64], positions: list[int]) -> list[int]:
        """Report samples that a decoder could not decode.

        Args:
            indices: int64 [N], the samples of a batch.
            positions: Positions in `indices` of the undecodable samples.

        Returns:
            `positions`.

        Raises:
            SampleError: There is one, and on_bad is "error".
        """
        if positions and not self.skips:
            index = int(indices[positions[0]])
            label, (path, place) = int(self._beton.labels[index]), self._beton.place(index)
            raise SampleError(
                f"sample {place} (class {label}) of {path} cannot be decoded. Run: prep verify"
                f" {path.parent}",
                place,
                label,
            )
        return positions
