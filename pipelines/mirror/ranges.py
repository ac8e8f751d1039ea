"""Requests for samples: `pieces_of` joins neighbors.

In: where samples lie, and when they are needed. Out: ranges of bytes.

Numbers: one connection to an object store gives about 90 MB/s (AWS: "Performance guidelines for
Amazon S3"), after 10 to 50 ms until the first byte. Bytes that nobody needs cost 1 ms for 90 kB, so
a gap of 64 KiB is cheaper than another request. At 1 MiB a request spends a fifth to a half of
its time with waiting, and the first sample of a range waits for at most 12 ms of others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Piece", "pieces_of", "requests_at_once"]

_MAX_GAP = 64 << 10  # bytes between two samples of a request
_MAX_BYTES = 1 << 20  # of a request for several samples
# Requests under way: `_FULL` of full size, and as many bytes of smaller or larger ones. On a slow
# line, more would not come before the time limit of a request. Each request takes a thread and a
# connection: `_MOST` is far from usual limits of open files.
_FULL, _LEAST, _MOST = 32, 4, 128

_Int64 = npt.NDArray[np.int64]


class Piece(NamedTuple):
    """Bytes of one beton.

    Attributes:
        need: When the first of them is needed: its place among all samples.
        samples: int64 [n], the samples that are needed of it, in the order of their bytes.
        start, end: Positions of the first byte, and of the byte behind the last.
    """

    need: int
    samples: _Int64
    start: int
    end: int


def pieces_of(samples: _Int64, starts: _Int64, sizes: _Int64, needs: _Int64) -> list[Piece]:
    """Join samples that lie near each other.

    Args:
        samples: int64 [n], different samples.
        starts, sizes: int64 [n], where their bytes lie. Positions in several betons differ by more
            than `_MAX_GAP`, so that no piece spans two of them.
        needs: int64 [n], when they are needed.
    """
    order = np.argsort(starts, kind="stable")
    # Lists: reading single elements of arrays is slower, and a window may have 300,000 samples.
    begins, ends = starts[order].tolist(), (starts + sizes)[order].tolist()
    pieces, first = [], 0
    for last, end in enumerate(ends):
        after = begins[last + 1] if last + 1 < len(ends) else None
        if after is None or after - end > _MAX_GAP or ends[last + 1] - begins[first] > _MAX_BYTES:
            at = order[first : last + 1]
            pieces.append(Piece(int(needs[at].min()), samples[at], begins[first], end))
            first = last + 1
    return pieces


def requests_at_once(pieces: Sequence[Piece]) -> int:
    """How many of some requests should be under way at the same time.

    The time until the first byte does not depend on their size. So small ones need more at a time,
    and about as many bytes are under way.

    Args:
        pieces: The requests.

    Returns:
        The number, not more than there are.
    """
    num_bytes = sum(one.end - one.start for one in pieces)
    wanted = _FULL * _MAX_BYTES * len(pieces) // max(1, num_bytes)
    return min(len(pieces), max(_LEAST, min(wanted, _MOST)))
