"""`Judgment`: all scores of a model on a split, for the page and the command.

In: the answers on a split, and those on val for the temperature. Out: figures with intervals,
figures of each class, the pairs of classes that are confused most, calibration.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from slipform.train.scores.answers import Answers
from slipform.train.scores.bootstrap import Interval, resampled
from slipform.train.scores.calibration import (
    NUM_BINS,
    Reliability,
    bins,
    cross_entropy,
    fit_temperature,
    reliability,
)
from slipform.train.scores.counts import ClassScores, class_scores
from slipform.train.scores.ranking import lowest_first

__all__ = ["HEADLINES", "Calibration", "Judgment", "Pair", "confused_pairs", "judge"]

# Name of a figure -> what it is.
HEADLINES = {
    "top1": "accuracy (top-1)",
    "top5": "top-5 accuracy",
    "precision": "precision, mean over classes",
    "recall": "recall, mean over classes",
    "f1": "F1, mean over classes",
    "f1_weighted": "F1, weighted by images",
    "auroc": "AUROC, each class against all others, mean",
    "ece": "calibration error (ECE)",
    "loss": "loss (cross entropy)",
}


@dataclass(frozen=True)
class Pair:
    """Two classes that are confused.

    Attributes:
        actual: The true class.
        predicted: The class that was predicted instead.
        images: How many images.
        share: The share of the images of the true class.
    """

    actual: int
    predicted: int
    images: int
    share: float


@dataclass(frozen=True)
class Calibration:
    """Confidence against accuracy.

    Attributes:
        before: The bins with the model's own probabilities.
        temperature: The temperature fitted on val; nan if there is no val split, or a logit on it
            is not finite.
        after: The bins with this temperature; None without a temperature, and on val itself.
        loss_after: The loss with this temperature; nan where `after` is None.
    """

    before: Reliability
    temperature: float
    after: Reliability | None
    loss_after: float


@dataclass(frozen=True)
class Judgment:
    """The scores of a model on a split.

    Attributes:
        split: The name of the split.
        classes: The names of the classes.
        answers: The logits of the model for each image.
        figures: Name -> figure with its interval; see `resampled`.
        scores: Precision, recall and F1 of each class.
        auroc: AUROC of each class against all others, float64 [C].
        calibration: Confidence against accuracy.
        pairs: The pairs of classes that are confused most, at most 100.
    """

    split: str
    classes: Sequence[str]
    answers: Answers
    figures: dict[str, Interval]
    scores: ClassScores
    auroc: npt.NDArray[np.float64]
    calibration: Calibration
    pairs: list[Pair]

    @property
    def worst_classes(self) -> list[int]:
        """The classes that have images, the lowest F1 first."""
        return lowest_first(self.scores.f1)

    @property
    def top_losses(self) -> list[int]:
        """The positions of the images in `answers`, the highest loss first."""
        return [int(i) for i in np.argsort(-self.answers.losses, kind="stable")]


def judge(
    split: str,
    classes: Sequence[str],
    answers: Answers,
    val: Answers | None = None,
    seed: int = 0,
) -> Judgment:
    """Judge a model by its answers.

    Args:
        split: The name of the split.
        classes: The names of the classes.
        answers: The answers on the split.
        val: The answers on val, for the temperature; `answers` itself if the split is val. None:
            there is no val split.
        seed: The seed of the intervals.
    """
    confusion = answers.confusion
    figures, areas = resampled(answers, seed)
    return Judgment(
        split=split,
        classes=classes,
        answers=answers,
        figures=figures,
        scores=class_scores(confusion.diagonal(), confusion.sum(1), confusion.sum(0)),
        auroc=areas,
        calibration=_calibration(answers, val),
        pairs=confused_pairs(confusion),
    )


def confused_pairs(confusion: npt.NDArray[np.int64], most: int = 100) -> list[Pair]:
    """The pairs of classes that are confused most.

    Args:
        confusion: int64 [C, C]. Rows are true classes, columns are predicted classes.
        most: The number of pairs.

    Returns:
        The pairs with the most images first; those with equal numbers by their share.
    """
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    rows, columns = np.nonzero(wrong)
    counts, sizes = wrong[rows, columns], confusion.sum(1)[rows]
    order = np.lexsort((columns, rows, -counts / sizes, -counts))[:most]
    return [
        Pair(int(rows[i]), int(columns[i]), int(counts[i]), float(counts[i] / sizes[i]))
        for i in order
    ]


def _calibration(answers: Answers, val: Answers | None) -> Calibration:
    before = _reliability(answers, 1.0)
    if val is None or not len(val):
        return Calibration(before, float("nan"), None, float("nan"))
    temperature = fit_temperature(val.logits, val.labels)
    if val is answers or np.isnan(temperature):
        return Calibration(before, temperature, None, float("nan"))
    losses = cross_entropy(answers.logits, answers.labels, temperature)
    loss = float(losses.mean()) if len(losses) else float("nan")
    return Calibration(before, temperature, _reliability(answers, temperature), loss)


def _reliability(answers: Answers, temperature: float) -> Reliability:
    confidence = answers.confidence(temperature)
    place, right = bins(confidence), answers.predicted == answers.labels
    sums = [np.bincount(place, x, NUM_BINS) for x in (np.ones(len(right)), confidence, right)]
    return reliability(*sums)
