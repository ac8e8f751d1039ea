"""Figures of a ranking: AUROC, average precision, placements, top-k.

In: scores [N, L] and which of them are positive, bool [N, L]; a column is a class or a label. Out:
float64 [L]. This room imports numpy alone: several classes and several labels share it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["auroc", "average_precision", "lowest_first", "placements", "top_k"]

_Floats = npt.NDArray[np.float64]
_Bools = npt.NDArray[np.bool_]


def auroc(scores: npt.NDArray[Any], positive: _Bools) -> _Floats:
    """The area under the ROC curve of each column; ties count half.

    It is the probability that a positive sample has a higher score than a negative one (Hanley and
    McNeil, 1982).

    Args:
        scores: Floats [N, L]; only their order within a column matters.
        positive: bool [N, L].

    Returns:
        float64 [L], 0..1; nan for a column without positive or without negative samples, and for
        one with a score that is nan.
    """
    columns = zip(scores.T, positive.T, strict=True)
    means = [_mean(placements(score, is_positive)[is_positive]) for score, is_positive in columns]
    return np.array(means, np.float64)


def placements(scores: npt.NDArray[Any], positive: _Bools) -> _Floats:
    """The share of the other group that each sample is ranked right against; ties count half.

    Their mean over the positive samples is the AUROC, and so is their mean over the negative ones
    (DeLong et al., 1988).

    Args:
        scores: Floats [N].
        positive: bool [N].

    Returns:
        float64 [N], 0..1. For a positive sample: the share of the negative samples below it. For a
        negative one: the share of the positive samples above it. nan if a group is empty or a
        score is nan.
    """
    up, down = np.sort(scores[positive]), np.sort(scores[~positive])
    if not len(up) or not len(down) or np.isnan([up[-1], down[-1]]).any():  # nan is sorted last
        return np.full(len(scores), np.nan)
    found = np.empty(len(scores))
    found[positive] = _share_below(down, scores[positive])
    found[~positive] = 1 - _share_below(up, scores[~positive])
    return found


def _share_below(ordered: npt.NDArray[Any], values: npt.NDArray[Any]) -> _Floats:
    """The share of `ordered` below each value; equal ones count half."""
    low = np.searchsorted(ordered, values, "left")
    high = np.searchsorted(ordered, values, "right")
    return (low + high) / (2.0 * len(ordered))


def average_precision(scores: npt.NDArray[Any], positive: _Bools) -> _Floats:
    """The average precision of each column: the mean precision at every recall, without smoothing.

    Samples with equal scores are ranked together, as in scikit-learn. The mean over the columns is
    mAP.

    Args:
        scores: Floats [N, L]; only their order within a column matters.
        positive: bool [N, L].

    Returns:
        float64 [L], 0..1; nan for a column without positive samples.
    """
    found = [_average_precision(a, b) for a, b in zip(scores.T, positive.T, strict=True)]
    return np.array(found, np.float64)


def _average_precision(scores: npt.NDArray[Any], positive: _Bools) -> float:
    num_positive = int(positive.sum())
    if not num_positive:
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    last = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)  # of equal scores
    hits = np.cumsum(positive[order])[last]
    gained = np.diff(hits, prepend=0)
    return float((gained * (hits / (last + 1.0))).sum() / num_positive)


def top_k(scores: npt.NDArray[Any], labels: npt.NDArray[Any], k: int) -> _Bools:
    """Whether the label of each sample is among its k highest scores.

    Args:
        scores: Floats [N, C].
        labels: Integers [N], 0..C - 1.
        k: The number of classes; all of them if there are fewer.

    Returns:
        bool [N]. Equal scores are ranked in the order of the classes.
    """
    own = np.take_along_axis(scores, labels[:, None], 1)
    before = np.arange(scores.shape[1]) < labels[:, None]
    rank = ((scores > own) | ((scores == own) & before)).sum(1)
    return np.asarray(rank < k)


def _mean(values: _Floats) -> float:
    return float(values.mean()) if len(values) else float("nan")


def lowest_first(values: _Floats) -> list[int]:
    """The positions of values, the lowest value first; equal values keep their order.

    Args:
        values: float64 [L]. Positions of nan are left out.
    """
    there = np.flatnonzero(~np.isnan(values))
    return [int(c) for c in there[np.argsort(values[there], kind="stable")]]
