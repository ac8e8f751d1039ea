"""Thresholds for several labels: the lowest probability at which an image gets a label.

In: probabilities [N, L] and which of them are positive, bool [N, L]. Out: float64 [L].
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["DEFAULT", "best_thresholds"]

DEFAULT = 0.5
_Floats = npt.NDArray[np.float64]


def best_thresholds(scores: npt.NDArray[Any], positive: npt.NDArray[np.bool_]) -> _Floats:
    """The threshold of each column with the highest F1; of equal ones, the highest threshold.

    A threshold is the midpoint between the lowest score above it and the next lower one.

    Args:
        scores: Probabilities [N, L], 0..1.
        positive: bool [N, L].

    Returns:
        float64 [L], 0..1; 0.5 for a column without positive samples.
    """
    found = [_best(a, b) for a, b in zip(scores.T, positive.T, strict=True)]
    return np.array(found, np.float64)


def _best(scores: npt.NDArray[Any], positive: npt.NDArray[np.bool_]) -> float:
    num_positive = int(positive.sum())
    if not num_positive:
        return DEFAULT
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order].astype(np.float64)
    last = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)  # of equal scores
    hits = np.cumsum(positive[order])[last]
    best = int(np.argmax(2 * hits / (last + 1.0 + num_positive)))
    at = last[best]
    below = ordered[at + 1] if at + 1 < len(ordered) else 0.0
    return float((ordered[at] + below) / 2)
