"""`LabelJudgment`: all scores of a model on images with several labels, for the page and the
command.

In: the answers on a split, thresholds, and the answers on val for the temperature. Out: figures
with intervals, figures of each class, calibration.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from slipform.train.scores.bootstrap import Interval
from slipform.train.scores.calibration import Reliability, fit_label_temperature, reliability
from slipform.train.scores.counts import ClassScores
from slipform.train.scores.judgment import Calibration
from slipform.train.scores.label_answers import LabelAnswers
from slipform.train.scores.label_bootstrap import bin_sums, resampled_labels
from slipform.train.scores.ranking import lowest_first

__all__ = ["LABEL_HEADLINES", "LabelJudgment", "judge_labels"]

# Name of a figure -> what it is.
LABEL_HEADLINES = {
    "map": "mAP, mean of the average precision over classes",
    "f1": "F1, mean over classes",
    "precision": "precision, mean over classes",
    "recall": "recall, mean over classes",
    "auroc": "AUROC, mean over classes",
    "ece": "calibration error (ECE) of the probabilities",
    "loss": "loss (binary cross entropy)",
}


@dataclass(frozen=True)
class LabelJudgment:
    """The scores of a model on a split whose images have several labels.

    Attributes:
        split: The name of the split.
        classes: The names of the classes.
        answers: The logits of the model for each image.
        thresholds: float64 [C]: an image has a label if its probability is at least this one.
        figures: Name -> figure with its interval; see `Resampled`.
        average_precision: The average precision of each class, with its interval; nan for a class
            without images.
        auroc: AUROC of each class, float64 [C].
        scores: Precision, recall and F1 of each class at the thresholds.
        calibration: Probabilities against the shares of images that have the labels.
    """

    split: str
    classes: Sequence[str]
    answers: LabelAnswers
    thresholds: npt.NDArray[np.float64]
    figures: dict[str, Interval]
    average_precision: list[Interval]
    auroc: npt.NDArray[np.float64]
    scores: ClassScores
    calibration: Calibration

    @property
    def worst_classes(self) -> list[int]:
        """The classes that have images, the lowest average precision first."""
        return lowest_first(np.array([one.value for one in self.average_precision]))

    @property
    def top_losses(self) -> list[int]:
        """The positions of the images in `answers`, the highest loss first."""
        return [int(i) for i in np.argsort(-self.answers.losses, kind="stable")]


def judge_labels(
    split: str,
    classes: Sequence[str],
    answers: LabelAnswers,
    thresholds: Sequence[float],
    val: LabelAnswers | None = None,
    seed: int = 0,
) -> LabelJudgment:
    """Judge a model by its answers.

    Args:
        split: The name of the split.
        classes: The names of the classes.
        answers: The answers on the split.
        thresholds: The threshold of each class.
        val: The answers on val, for the temperature; `answers` itself if the split is val. None:
            there is no val split.
        seed: The seed of the intervals.
    """
    limits = np.array(thresholds, np.float64)
    found = resampled_labels(answers, limits, seed)
    return LabelJudgment(
        split=split,
        classes=classes,
        answers=answers,
        thresholds=limits,
        figures=found.figures,
        average_precision=found.average_precision,
        auroc=found.auroc,
        scores=found.scores,
        calibration=_calibration(found.reliability, answers, val),
    )


def _calibration(
    before: Reliability, answers: LabelAnswers, val: LabelAnswers | None
) -> Calibration:
    nan = float("nan")
    temperature = nan if val is None else fit_label_temperature(val.logits, val.positive)
    if val is answers or np.isnan(temperature):
        return Calibration(before, temperature, None, nan)
    cooled = replace(answers, logits=answers.logits / np.float32(temperature))
    after = reliability(*(part.sum(0) for part in bin_sums(cooled)))
    loss = float(cooled.losses.mean()) if len(answers) else nan
    return Calibration(before, temperature, after, loss)
