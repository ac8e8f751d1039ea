"""Iterative stratification: samples with several labels in parts, so that each part has its share
of every label. Compiled by numba.

In: a label table, the share of each part, a random order. Out: the part of each sample. Source:
Sechidis, Tsoumakas and Vlahavas, "On the stratification of multi-label data", ECML PKDD 2011.
Ties go to the first part; there they are broken at random.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from slipform.pipelines.kernel import kernel
from slipform.pipelines.label_table import LabelTable

__all__ = ["parts_by_labels"]

_Int64 = npt.NDArray[np.int64]


def parts_by_labels(
    table: LabelTable, shares: Sequence[float], rank: _Int64, sizes: Sequence[int] | None = None
) -> _Int64:
    """Divide samples into parts.

    The class with the fewest samples left is divided first. Each of its samples goes to the part
    that still wants most samples of this class, or else most samples of any class. The samples
    without labels come last.

    Args:
        table: Any number of labels for each of N samples.
        shares: The share of each part; they sum to 1.
        rank: int64 [N], a permutation: samples with low numbers come first.
        sizes: The number of samples of each part, which sum to N. Default: about share * N.

    Returns:
        int64 [N], the number of the part of each sample.
    """
    num, sample, number = table.num_samples, table.rows["sample"], table.rows["class"]
    left = np.bincount(number)
    limited = sizes is not None
    room = [num * share for share in shares] if sizes is None else sizes
    parts = np.full(num, -1)
    _divide(
        np.searchsorted(sample, np.arange(num + 1)),
        number.astype(np.int64),
        np.concatenate([[0], np.cumsum(left)]),
        sample[np.lexsort((rank[sample], number))].astype(np.int64),
        np.argsort(rank),
        left,
        np.array([left * share for share in shares], np.float64),
        np.array(room, np.float64),
        limited,
        parts,
    )
    return parts


@kernel
def _divide(starts, classes, first, members, order, left, wanted, room, limited, parts):
    """Give each sample a part.

    Args:
        starts: int64 [N + 1], where the classes of each sample begin in `classes`.
        classes: int64 [M].
        first: int64 [C + 1], where the samples of each class begin in `members`.
        members: int64 [M], the samples of each class in their order.
        order: int64 [N], all samples in their order.
        left: int64 [C], the samples of each class without a part. It is changed.
        wanted: float64 [P, C], the samples of each class that each part still wants. It is changed.
        room: float64 [P], the samples that each part still wants. It is changed.
        limited: Whether a part without room gets no more samples.
        parts: Output, int64 [N], -1 before.
    """
    while True:
        rarest = -1
        for c in range(len(left)):
            if left[c] > 0 and (rarest < 0 or left[c] < left[rarest]):
                rarest = c
        if rarest < 0:
            break
        for at in range(first[rarest], first[rarest + 1]):
            if parts[members[at]] < 0:
                _place(members[at], rarest, starts, classes, left, wanted, room, limited, parts)
    for index in order:
        if parts[index] < 0:
            _place(index, -1, starts, classes, left, wanted, room, limited, parts)


@kernel
def _place(index, number, starts, classes, left, wanted, room, limited, parts):
    """Give a sample the part that wants it most, as a sample of a class; -1: of any class."""
    best = -1
    for part in range(len(room)):
        if limited and room[part] <= 0:
            continue
        if best < 0:
            best = part
            continue
        more = 0.0 if number < 0 else wanted[part, number] - wanted[best, number]
        if more > 0 or (more == 0 and room[part] > room[best]):
            best = part
    parts[index] = best
    room[best] -= 1
    for at in range(starts[index], starts[index + 1]):
        wanted[best, classes[at]] -= 1
        left[classes[at]] -= 1
