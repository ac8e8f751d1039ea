"""Precision, recall and F1 from counts.

In: for each class, the numbers of samples, of predictions and of correct predictions. Out: float64,
for each class; means over the classes. A column may also be one of several labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["ClassScores", "class_scores", "macro", "weighted"]

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ClassScores:
    """Precision, recall and F1 of each class; nan for a class without samples.

    Attributes:
        images: The number of samples of each class, [..., C].
        precision: The share of the predictions of a class that are right; 0 if it was never
            predicted. float64 [..., C].
        recall: The share of the samples of a class that are found: the accuracy on that class.
        f1: The harmonic mean of precision and recall.
    """

    images: _Floats
    precision: _Floats
    recall: _Floats
    f1: _Floats


def class_scores(
    right: npt.NDArray[Any], actual: npt.NDArray[Any], predicted: npt.NDArray[Any]
) -> ClassScores:
    """Precision, recall and F1 from counts.

    Args:
        right: Samples of each class that were predicted correctly, [..., C]: the diagonal of a
            confusion matrix.
        actual: Samples of each class.
        predicted: Predictions of each class.
    """
    right, actual, predicted = (np.asarray(x, np.float64) for x in (right, actual, predicted))
    there = actual > 0
    absent = np.where(there, 0.0, np.nan)
    return ClassScores(
        images=actual,
        precision=right / np.maximum(predicted, 1.0) + absent,
        recall=right / np.maximum(actual, 1.0) + absent,
        f1=2 * right / np.maximum(actual + predicted, 1.0) + absent,
    )


def macro(values: npt.NDArray[Any]) -> _Floats:
    """The mean over the classes that have samples; every class counts the same.

    Args:
        values: [..., C]; nan for classes without samples.

    Returns:
        float64 [...]; nan if no class has samples.
    """
    there = ~np.isnan(values)
    total = np.where(there, values, 0.0).sum(-1)
    return np.asarray(total / np.where(there.any(-1), there.sum(-1), np.nan))


def weighted(values: npt.NDArray[Any], images: npt.NDArray[Any]) -> _Floats:
    """The mean over the classes, weighted by their samples.

    Args:
        values: [..., C]; nan for classes without samples.
        images: Samples of each class, [..., C].

    Returns:
        float64 [...]; nan if no class has samples.
    """
    total = images.sum(-1)
    summed = (np.where(images > 0, np.nan_to_num(values), 0.0) * images).sum(-1)
    return np.asarray(summed / np.where(total > 0, total, np.nan))
