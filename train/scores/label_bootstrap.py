"""Bootstrap intervals of the figures of images with several labels.

In: the answers of a model, thresholds. Out: each figure in many resamples, and 95 % intervals; see
`bootstrap`. Average precision and AUROC are exact in each resample.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from slipform.train.scores.bootstrap import (
    Interval,
    at_a_time,
    drawn,
    interval,
    num_resamples,
    products,
)
from slipform.train.scores.calibration import NUM_BINS, Reliability, bins, reliability
from slipform.train.scores.counts import ClassScores, class_scores, macro
from slipform.train.scores.label_answers import LabelAnswers

__all__ = ["Resampled", "bin_sums", "label_memory_bytes", "resampled_labels"]

_Floats = npt.NDArray[np.float64]

_FEWEST = 200  # resamples
_MAX_PLACES = 2_000_000_000  # images of all classes and resamples together
_ROWS = (1, 100)  # resamples whose ranking is in memory at a time
_PLACE_BYTES = 72  # of an image in a ranking: nine numbers


@dataclass(frozen=True)
class Resampled:
    """Figures with their intervals.

    Attributes:
        figures: "map", "f1", "precision", "recall", "auroc", "ece", "loss". All but the last two
            are means over the classes that have images; nan without images.
        average_precision: The average precision of each class; nan for one without images.
        auroc: The AUROC of each class, float64 [C]; nan for one without images or without others.
        scores: Precision, recall and F1 of each class at the thresholds.
        reliability: The probabilities of all classes against the shares of images that have them.
    """

    figures: dict[str, Interval]
    average_precision: list[Interval]
    auroc: _Floats
    scores: ClassScores
    reliability: Reliability


def label_memory_bytes(num_images: int, num_classes: int) -> int:
    """The memory that `resampled_labels` needs beside the logits, at most.

    Args:
        num_images: The number of images.
        num_classes: The number of classes.
    """
    rows = _resamples(num_images, num_classes) + 1
    ranking = _PLACE_BYTES * _rows(num_images)
    images = num_images * (rows + ranking + 64 * num_classes + 32 * NUM_BINS)
    return images + 64 * rows * (num_classes + NUM_BINS)


def resampled_labels(
    answers: LabelAnswers, thresholds: npt.NDArray[np.float64], seed: int = 0
) -> Resampled:
    """The figures of a model, each with its interval.

    Args:
        answers: What the model says about each image.
        thresholds: float64 [C]: an image has a label if its probability is at least this one.
        seed: The seed of the resamples.
    """
    count, classes = answers.logits.shape
    weights = drawn(count, _resamples(count, classes), seed)
    shares, positive = answers.probabilities, answers.positive
    precision, areas = (np.empty((len(weights), classes)) for _ in range(2))
    for c in range(classes):
        precision[:, c], areas[:, c] = _ranked(weights, shares[:, c], positive[:, c])
    chosen = shares >= thresholds
    scores = class_scores(
        products(weights, chosen & positive), products(weights, positive), products(weights, chosen)
    )
    total = weights.sum(1, dtype=np.float64)
    finite = np.where(np.isfinite(answers.losses), answers.losses, np.nan)  # 0 * inf is nan, too
    losses = products(weights, finite[:, None])[:, 0] / np.where(total > 0, total, np.nan)
    found = reliability(*(products(weights, part) for part in bin_sums(answers)))
    columns = {
        "map": macro(precision),
        "f1": macro(scores.f1),
        "precision": macro(scores.precision),
        "recall": macro(scores.recall),
        "auroc": macro(areas),
        "ece": found.error,
        "loss": losses,
    }
    return Resampled(
        figures={
            name: interval(float(values[0]), values[1:], np.inf if name == "loss" else 1.0)
            for name, values in columns.items()
        },
        average_precision=[
            interval(float(values[0]), values[1:]) for values in precision.T
        ],
        auroc=areas[0],
        scores=ClassScores(
            scores.images[0], scores.precision[0], scores.recall[0], scores.f1[0]
        ),
        reliability=Reliability(found.images[0], found.confidence[0], found.accuracy[0]),
    )  # fmt: skip


def _resamples(num_images: int, num_classes: int) -> int:
    most = _MAX_PLACES // max(1, num_images * num_classes)
    return max(_FEWEST, min(most, num_resamples(num_images)))


def _rows(num_images: int) -> int:
    """The resamples whose ranking is in memory at a time."""
    return at_a_time(_ROWS, num_images * _PLACE_BYTES // 4)


def _ranked(
    weights: npt.NDArray[np.uint8], scores: _Floats, positive: npt.NDArray[np.bool_]
) -> tuple[_Floats, _Floats]:
    """Average precision and AUROC of one class in each resample; see `ranking`.

    An image that a resample has k times counts like k images with equal scores.

    Returns:
        Two float64 [R]; nan for a resample without positive images, and the second one also for one
        without negative images.
    """
    precision, areas = (np.full(len(weights), np.nan) for _ in range(2))
    if not positive.any():
        return precision, areas
    order = np.argsort(-scores, kind="stable")
    ordered, right = scores[order], np.flatnonzero(positive[order])
    # Equal scores are one group. Only groups with positive images count: their begins and ends, and
    # the first positive image of each.
    begins = np.flatnonzero(np.append(True, np.diff(ordered)))
    group = np.searchsorted(begins, right, "right") - 1
    first = np.flatnonzero(np.append(True, np.diff(group)))
    begin, end = begins[group[first]], np.append(begins, len(scores))[group[first] + 1]
    size = _rows(len(scores))
    for start in range(0, len(weights), size):
        rows = slice(start, start + size)
        drawn_rows = weights[rows][:, order]
        summed = np.cumsum(drawn_rows, 1, dtype=np.int32)
        every = summed[:, end - 1].astype(np.float64)
        before = np.where(begin > 0, summed[:, begin - 1], 0)
        gained = np.add.reduceat(drawn_rows[:, right], first, axis=1, dtype=np.int64)
        hits = np.cumsum(gained, 1)
        total = np.where(hits[:, -1] > 0, hits[:, -1], np.nan)
        precision[rows] = (gained * (hits / np.maximum(every, 1))).sum(1) / total
        # For each positive image: the negative ones below it, and half of those with its score.
        misses = summed[:, -1] - hits[:, -1]
        above = (every - hits + before - hits + gained) / 2
        others = np.where(misses > 0, misses, np.nan)
        areas[rows] = (gained * (misses[:, None] - above)).sum(1) / (total * others)
    return precision, areas


def bin_sums(answers: LabelAnswers) -> list[_Floats]:
    """For each image and bin: its probabilities in the bin, their sum, and how many are labels.

    Args:
        answers: What the model says about each image.

    Returns:
        Three float64 [N, bins].
    """
    count, classes = answers.logits.shape
    shares = answers.probabilities.ravel()
    place = np.repeat(np.arange(count), classes) * NUM_BINS + bins(shares)
    parts = (np.ones(len(shares)), shares, answers.positive.ravel().astype(np.float64))
    sums = (np.bincount(place, part, count * NUM_BINS) for part in parts)
    return [np.asarray(part, np.float64).reshape(count, NUM_BINS) for part in sums]
