"""Bootstrap intervals: the variation of a figure with other images of the same kind.

In: the answers of a model. Out: each figure in many resamples, and 95 % intervals. A resample draws
N of the N images with replacement (Efron, 1979). The same seed gives the same intervals.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from slipform.train.scores.answers import Answers
from slipform.train.scores.calibration import NUM_BINS, bins, reliability
from slipform.train.scores.counts import class_scores, macro, weighted
from slipform.train.scores.ranking import placements, top_k

__all__ = ["Interval", "figures_of", "interval"]

_Floats = npt.NDArray[np.float64]

_MOST, _FEWEST = 1000, 200  # resamples
_MAX_DRAWS = 200_000_000  # images in all resamples together
_CLASSES = 64  # whose placements are in memory at a time
_ROWS = 100  # resamples that are converted to float32 at a time
_LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A figure and its 95 % interval.

    Attributes:
        value: The figure.
        low: The lower end.
        high: The upper end.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f} ({self.low:.4f} to {self.high:.4f})"


def interval(value: float, resampled: npt.NDArray[Any], most: float = 1.0) -> Interval:
    """The percentile interval (Efron, 1979), moved by the bias of the resamples.

    Resamples have a bias in figures such as ECE and F1 of many classes, which are not means of the
    images: their mean is not the value of all images.

    Args:
        value: The figure of all images.
        resampled: The figure of each resample; nan ones are left out.
        most: The highest possible value; the lowest one is 0.

    Returns:
        An interval that contains the value.
    """
    found = resampled[~np.isnan(resampled)]
    if not len(found) or np.isnan(value):
        return Interval(value, float("nan"), float("nan"))
    tail = (1 - _LEVEL) / 2
    low, high = np.quantile(found, [tail, 1 - tail]) - (found.mean() - value)
    return Interval(value, min(max(float(low), 0.0), value), max(min(float(high), most), value))


def figures_of(answers: Answers, seed: int = 0) -> dict[str, Interval]:
    """The headline figures of a model, each with its interval.

    Precision, recall, F1 and AUROC are means over the classes that have images ("macro"); AUROC is
    of the probability of each class against all others. AUROC is resampled by its placements: the
    value is exact, and the interval is a first-order approximation.

    Args:
        answers: What the model says about each image.
        seed: The seed of the resamples.

    Returns:
        "top1", "top5" (if there are more than five classes), "precision", "recall", "f1",
        "f1_weighted", "auroc", "ece", "loss". nan without images.
    """
    count = len(answers)
    num = int(np.clip(_MAX_DRAWS // max(1, count), _FEWEST, _MOST))
    rng = np.random.default_rng(seed)
    weights = np.ones((num + 1, count), np.uint8)  # the first one has every image once
    for row in weights[1:] if count else ():
        drawn = np.bincount(rng.integers(0, count, count), minlength=count)
        row[:] = np.minimum(drawn, 255)
    columns = _columns(answers, weights)
    return {
        name: interval(float(values[0]), values[1:], np.inf if name == "loss" else 1.0)
        for name, values in columns.items()
    }


def _columns(answers: Answers, weights: npt.NDArray[np.uint8]) -> dict[str, _Floats]:
    """Name -> the figure of each row of weights."""
    labels, predicted, classes = answers.labels, answers.predicted, answers.logits.shape[1]
    right, confidence = predicted == labels, answers.confidence()
    bin_of, own = bins(confidence), _own_placements(answers)
    total = weights.sum(1, dtype=np.float64)

    def mean(values: npt.NDArray[Any]) -> _Floats:
        return _products(weights, values[:, None])[:, 0] / np.where(total > 0, total, np.nan)

    def sums(place: npt.NDArray[Any], values: npt.NDArray[Any] | float, size: int) -> _Floats:
        return np.array([np.bincount(place, row * values, size) for row in weights])

    actual = sums(labels, 1.0, classes)
    scores = class_scores(sums(labels, right, classes), actual, sums(predicted, 1.0, classes))
    bin_sums = [sums(bin_of, values, NUM_BINS) for values in (1.0, confidence, right)]
    found = {"top1": mean(right)}
    if classes > 5:
        found["top5"] = mean(top_k(answers.logits, labels, 5))
    return found | {
        "precision": macro(scores.precision),
        "recall": macro(scores.recall),
        "f1": macro(scores.f1),
        "f1_weighted": weighted(scores.f1, actual),
        "auroc": _auroc(answers, weights, actual, sums(labels, np.nan_to_num(own), classes)),
        "ece": reliability(*bin_sums).error,
        "loss": mean(answers.losses),
    }


def _own_placements(answers: Answers) -> _Floats:
    """The placement of each image among the images of other classes, by its own class."""
    found = np.full(len(answers), np.nan)
    for c in np.unique(answers.labels):
        own = answers.labels == c
        found[own] = placements(answers.log_probability(int(c)), own)[own]
    return found


def _auroc(
    answers: Answers, weights: npt.NDArray[np.uint8], actual: _Floats, own: _Floats
) -> _Floats:
    """The mean AUROC over the classes in each resample, to the first order.

    The area of a resample is that of all images, plus the change of the mean placement of the
    positive images, plus that of the negative ones (DeLong et al., 1988).
    """
    total = actual.sum(1)
    areas = np.full(actual.shape, np.nan)
    for start in range(0, actual.shape[1], _CLASSES):
        here = range(start, min(start + _CLASSES, actual.shape[1]))
        others = np.zeros((len(answers), len(here)), np.float32)
        for column, c in enumerate(here):
            positive = answers.labels == c
            if 0 < positive.sum() < len(positive):
                placed = placements(answers.log_probability(c), positive)
                others[:, column] = np.where(positive, 0.0, placed)
        negative = _products(weights, others) / np.maximum(total[:, None] - actual[:, here], 1.0)
        positive_mean = own[:, here] / np.maximum(actual[:, here], 1.0)
        sound = (actual[:, here] > 0) & (actual[:, here] < total[:, None])
        area = positive_mean + negative - negative[0]
        areas[:, here] = np.where(sound, np.clip(area, 0.0, 1.0), np.nan)
    return macro(areas)


def _products(weights: npt.NDArray[np.uint8], values: npt.NDArray[Any]) -> _Floats:
    """weights @ values, a few rows at a time."""
    found = np.empty((len(weights), values.shape[1]))
    small = values.astype(np.float32 if values.shape[1] > 1 else np.float64)
    for start in range(0, len(weights), _ROWS):
        found[start : start + _ROWS] = weights[start : start + _ROWS].astype(small.dtype) @ small
    return found
