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

__all__ = [
    "Interval", "at_a_time", "drawn", "figures_of", "interval", "memory_bytes", "num_resamples",
    "of_share", "products", "resampled",
]  # fmt: skip

_Floats = npt.NDArray[np.float64]

_MOST, _FEWEST = 1000, 200  # resamples
_MAX_DRAWS = 200_000_000  # images in all resamples together
_BLOCK = 2**26  # bytes of float32 that are converted, or computed, at a time
_CLASSES = (8, 64)  # whose placements are in memory at a time
_ROWS = (4, 100)  # resamples that are converted to float32 at a time
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


def of_share(share: float, num_images: int) -> Interval:
    """A share of images, such as an accuracy, with the exact percentile interval.

    It is that of infinitely many resamples: their shares have a binomial distribution.

    Args:
        share: 0..1.
        num_images: The number of images, 1 or more.
    """
    if share <= 0 or share >= 1:
        return Interval(share, share, share)
    found = np.arange(num_images + 1)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(found[1:]))])
    log_ways = log_factorial[-1] - log_factorial - log_factorial[::-1]
    logs = log_ways + found * np.log(share) + found[::-1] * np.log1p(-share)
    tail = (1 - _LEVEL) / 2
    low, high = np.searchsorted(np.cumsum(np.exp(logs)), [tail, 1 - tail]) / num_images
    return Interval(share, min(float(low), share), max(float(high), share))


def memory_bytes(num_images: int, num_classes: int) -> int:
    """The memory that `resampled` needs beside the answers, at most.

    Args:
        num_images: The number of images.
        num_classes: The number of classes.
    """
    blocks = 4 * (at_a_time(_ROWS, num_images) + 2 * at_a_time(_CLASSES, num_images))
    rows = num_resamples(num_images) + 1
    return num_images * (rows + blocks + 200) + 8 * rows * (16 * num_classes + 8 * NUM_BINS)


def figures_of(answers: Answers, seed: int = 0) -> dict[str, Interval]:
    """The headline figures of a model, each with its interval: see `resampled`.

    Args:
        answers: What the model says about each image.
        seed: The seed of the resamples.
    """
    return resampled(answers, seed)[0]


def resampled(answers: Answers, seed: int = 0) -> tuple[dict[str, Interval], _Floats]:
    """The headline figures of a model, each with its interval, and the AUROC of each class.

    Precision, recall, F1 and AUROC are means over the classes that have images ("macro"); AUROC is
    of the probability of each class against all others. AUROC is resampled by its placements: the
    value is exact, and the interval is a first-order approximation.

    Args:
        answers: What the model says about each image.
        seed: The seed of the resamples.

    Returns:
        "top1", "top5" (if there are more than five classes), "precision", "recall", "f1",
        "f1_weighted", "auroc", "ece", "loss"; nan without images. And AUROC, float64 [C]; nan for
        a class without images, and for one without others.
    """
    count = len(answers)
    weights = drawn(count, num_resamples(count), seed)
    columns, areas = _columns(answers, weights)
    return {
        name: interval(float(values[0]), values[1:], np.inf if name == "loss" else 1.0)
        for name, values in columns.items()
    }, areas


def drawn(num_images: int, resamples: int, seed: int) -> npt.NDArray[np.uint8]:
    """Draw resamples.

    Args:
        num_images: N.
        resamples: R.
        seed: The seed.

    Returns:
        uint8 [R + 1, N]: how often each resample has each image, at most 255. The first row has
        every image once.
    """
    rng = np.random.default_rng(seed)
    weights = np.ones((resamples + 1, num_images), np.uint8)
    for row in weights[1:] if num_images else ():
        counts = np.bincount(rng.integers(0, num_images, num_images), minlength=num_images)
        row[:] = np.minimum(counts, 255)
    return weights


def num_resamples(num_images: int) -> int:
    """The number of resamples: fewer for very many images.

    Args:
        num_images: The number of images.
    """
    return int(np.clip(_MAX_DRAWS // max(1, num_images), _FEWEST, _MOST))


def at_a_time(limits: tuple[int, int], num_images: int) -> int:
    """How many rows of float32 [N] are in memory at a time.

    Args:
        limits: The fewest and the most.
        num_images: N.
    """
    return int(np.clip(_BLOCK // (4 * max(1, num_images)), *limits))


def _columns(
    answers: Answers, weights: npt.NDArray[np.uint8]
) -> tuple[dict[str, _Floats], _Floats]:
    """Name -> the figure of each row of weights; and the AUROC of each class in the first row."""
    labels, predicted, classes = answers.labels, answers.predicted, answers.logits.shape[1]
    right, confidence = predicted == labels, answers.confidence()
    bin_of = bins(confidence)
    total = weights.sum(1, dtype=np.float64)

    def mean(values: npt.NDArray[Any]) -> _Floats:
        return products(weights, values[:, None])[:, 0] / np.where(total > 0, total, np.nan)

    def sums(place: npt.NDArray[Any], values: npt.NDArray[Any] | float, size: int) -> _Floats:
        return np.array([np.bincount(place, row * values, size) for row in weights])

    own, others = _placed(answers, weights)
    actual = sums(labels, 1.0, classes)
    scores = class_scores(sums(labels, right, classes), actual, sums(predicted, 1.0, classes))
    bin_sums = [sums(bin_of, values, NUM_BINS) for values in (1.0, confidence, right)]
    areas = _areas(actual, sums(labels, own, classes), others)
    found = {"top1": mean(right)}
    if classes > 5:
        found["top5"] = mean(top_k(answers.logits, labels, 5))
    found |= {
        "precision": macro(scores.precision),
        "recall": macro(scores.recall),
        "f1": macro(scores.f1),
        "f1_weighted": weighted(scores.f1, actual),
        "auroc": macro(areas),
        "ece": reliability(*bin_sums).error,
        "loss": mean(answers.losses),
    }
    return found, areas[0]


def _placed(answers: Answers, weights: npt.NDArray[np.uint8]) -> tuple[_Floats, _Floats]:
    """The placements of images by the probability of a class: see `placements`.

    Returns:
        For each image its placement by its own class, float64 [N]; and for each row of weights and
        each class the sum of the placements of the images of other classes, float64 [R, C]. 0
        without images of the class, or of others.
    """
    count, classes = answers.logits.shape
    own, sums = np.zeros(count), np.empty((len(weights), classes))
    size = at_a_time(_CLASSES, count)
    for start in range(0, classes, size):
        here = range(start, min(start + size, classes))
        others = np.zeros((count, len(here)), np.float32)
        for column, c in enumerate(here):
            positive = answers.labels == c
            if 0 < positive.sum() < count:
                placed = placements(answers.log_probability(c), positive)
                own[positive] = placed[positive]
                others[:, column] = np.where(positive, 0.0, placed)
        sums[:, here] = products(weights, others)
    return own, sums


def _areas(actual: _Floats, own: _Floats, others: _Floats) -> _Floats:
    """The AUROC of each class in each resample, to the first order.

    The area of a resample is that of all images, plus the change of the mean placement of the
    positive images, plus that of the negative ones (DeLong et al., 1988).

    Args:
        actual: Images of each class, [R, C]; the first row is that of all images.
        own: The sum of the placements of the images of the class.
        others: That of the other images.

    Returns:
        float64 [R, C]; nan for a class without images, and for one without others.
    """
    total = actual.sum(1, keepdims=True)
    positive = own / np.maximum(actual, 1.0)
    negative = others / np.maximum(total - actual, 1.0)
    area = np.clip(positive + negative - negative[0], 0.0, 1.0)
    return np.where((actual > 0) & (actual < total), area, np.nan)


def products(weights: npt.NDArray[np.uint8], values: npt.NDArray[Any]) -> _Floats:
    """weights @ values, a few rows at a time.

    Args:
        weights: uint8 [R, N]; see `drawn`.
        values: Numbers [N, K].

    Returns:
        float64 [R, K].
    """
    found = np.empty((len(weights), values.shape[1]))
    small = values.astype(np.float32 if values.shape[1] > 1 else np.float64, copy=False)
    size = at_a_time(_ROWS, len(values))
    for start in range(0, len(weights), size):
        found[start : start + size] = weights[start : start + size].astype(small.dtype) @ small
    return found
