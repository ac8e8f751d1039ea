"""Calibration: the difference between a model's confidence and its accuracy, and a temperature that
reduces it.

In: confidences and whether they were right, or logits and labels. Out: bins of a reliability
figure, the expected calibration error (ECE), a temperature.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "NUM_BINS", "Reliability", "bins", "cross_entropy", "fit_label_temperature", "fit_temperature",
    "reliability",
]  # fmt: skip

_Floats = npt.NDArray[np.float64]

NUM_BINS = 15  # Guo et al., 2017
_COLDEST, _HOTTEST = 0.02, 50.0
_STEPS = 60
_ROWS = 4096  # of logits at a time: float64 copies of all would take twice their memory


@dataclass(frozen=True)
class Reliability:
    """The bins of a reliability figure.

    Attributes:
        images: Images in each bin, [..., bins]. The bins have equal widths from 0 to 1.
        confidence: Their mean confidence; nan for an empty bin, and where one is not finite.
        accuracy: The share of them that was right; nan for an empty bin.
    """

    images: _Floats
    confidence: _Floats
    accuracy: _Floats

    @property
    def error(self) -> _Floats:
        """The expected calibration error: the mean gap, weighted by the images, [...]."""
        gaps = np.where(self.images > 0, np.abs(self.accuracy - self.confidence), 0.0)
        total = self.images.sum(-1)
        return np.asarray((gaps * self.images).sum(-1) / np.where(total > 0, total, np.nan))


def bins(confidence: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """The bin of each confidence. A bin contains its upper edge, and the first one also 0.

    Args:
        confidence: Floats [N], 0..1.
    """
    edges = np.linspace(0, 1, NUM_BINS + 1)[1:-1]
    return np.searchsorted(edges, confidence, "left")


def reliability(
    images: npt.NDArray[Any], confidence: npt.NDArray[Any], right: npt.NDArray[Any]
) -> Reliability:
    """The reliability from sums over the bins.

    Args:
        images: Images in each bin, [..., bins].
        confidence: The sum of their confidences.
        right: How many of them were right.
    """
    there = np.where(images > 0, images, np.nan)
    return Reliability(images, confidence / there, right / there)


def cross_entropy(
    logits: npt.NDArray[Any], labels: npt.NDArray[Any], temperature: float = 1.0
) -> _Floats:
    """The cross entropy of each image.

    Args:
        logits: Floats [N, C].
        labels: Integers [N].
        temperature: The logits are divided by it.

    Returns:
        float64 [N]; nan for an image with a logit that is nan or inf.
    """
    found = np.empty(len(logits))
    for start in range(0, len(logits), _ROWS):
        part = logits[start : start + _ROWS] / np.float64(temperature)
        with np.errstate(invalid="ignore"):  # inf - inf is nan
            part -= part.max(1, keepdims=True)
        own = part[np.arange(len(part)), labels[start : start + _ROWS]]
        found[start : start + _ROWS] = np.log(np.exp(part).sum(1)) - own
    return found


def fit_temperature(logits: npt.NDArray[Any], labels: npt.NDArray[Any]) -> float:
    """The temperature with the lowest mean cross entropy (Guo et al., 2017).

    The cross entropy is convex in 1 / temperature. Newton's method within a bracket finds the zero
    of its derivative.

    Args:
        logits: Floats [N, C], of images that the model was not trained on.
        labels: Integers [N].

    Returns:
        The temperature, 0.02..50. A model without errors has the lowest one. nan without images,
        and if a logit is not finite.
    """
    if not len(logits) or not np.isfinite(logits).all():
        return math.nan
    return _minimum(partial(_slope, logits, labels))


def fit_label_temperature(logits: npt.NDArray[Any], positive: npt.NDArray[np.bool_]) -> float:
    """The temperature with the lowest mean binary cross entropy, for several labels.

    Args:
        logits: Floats [N, C], of images that the model was not trained on.
        positive: bool [N, C], their labels.

    Returns:
        See `fit_temperature`.
    """
    if not len(logits) or not np.isfinite(logits).all():
        return math.nan
    return _minimum(partial(_label_slope, logits, positive))


def _minimum(slopes: Callable[[float], tuple[float, float]]) -> float:
    """The temperature at the minimum of a convex loss of beta = 1 / temperature.

    Args:
        slopes: Its first and second derivative by beta.
    """
    low, high = 1 / _HOTTEST, 1 / _COLDEST
    if slopes(low)[0] >= 0:
        return _HOTTEST
    if slopes(high)[0] <= 0:
        return _COLDEST
    beta = 1.0
    for _ in range(_STEPS):
        slope, curvature = slopes(beta)
        low, high = (beta, high) if slope < 0 else (low, beta)
        step = beta - slope / curvature if curvature > 0 else 0.0
        following = step if low < step < high else math.sqrt(low * high)
        if abs(following - beta) < 1e-9 * beta:
            break
        beta = following
    return 1 / beta


def _slope(logits: npt.NDArray[Any], labels: npt.NDArray[Any], beta: float) -> tuple[float, float]:
    """The first and second derivative of the summed cross entropy by beta = 1 / temperature."""
    slope = curvature = 0.0
    for start in range(0, len(logits), _ROWS):
        part = logits[start : start + _ROWS].astype(np.float64)
        part -= part.max(1, keepdims=True)
        shares = np.exp(beta * part)
        shares /= shares.sum(1, keepdims=True)
        mean = (shares * part).sum(1)
        slope += float((mean - part[np.arange(len(part)), labels[start : start + _ROWS]]).sum())
        curvature += float(((shares * part**2).sum(1) - mean**2).sum())
    return slope, curvature


def _label_slope(
    logits: npt.NDArray[Any], positive: npt.NDArray[np.bool_], beta: float
) -> tuple[float, float]:
    """The first and second derivative of the summed binary cross entropy by beta."""
    slope = curvature = 0.0
    for start in range(0, len(logits), _ROWS):
        part = logits[start : start + _ROWS].astype(np.float64)
        shares = np.exp(-np.logaddexp(0.0, -beta * part))
        slope += float((part * (shares - positive[start : start + _ROWS])).sum())
        curvature += float((part**2 * shares * (1 - shares)).sum())
    return slope, curvature
