"""Judging a trained model by its answers on a split.

In: a run or a Classifier, a dataset. Out: a Judgment, or a LabelJudgment if images have several
labels.
"""

from __future__ import annotations

from pathlib import Path

from slipform.pipelines.manifest import read_manifest
from slipform.train.inference.answers import answers_of, label_answers_of
from slipform.train.inference.classifier import Classifier
from slipform.train.scores import label_judgment
from slipform.train.scores.judgment import Judgment
from slipform.train.scores.judgment import judge as judge_answers
from slipform.train.scores.label_judgment import LabelJudgment
from slipform.train.step.data import has_images

__all__ = ["judge", "judge_any", "judge_labels", "judge_model"]


def judge(
    run: Path | str,
    data: Path | str | None = None,
    split: str = "test",
    device: str = "auto",
    seed: int = 0,
) -> Judgment | LabelJudgment:
    """Judge the best epoch of a run on a split: figures with intervals, classes, calibration.

    Args:
        run: The run folder.
        data: A folder that prep wrote, or its URL. Default: the dataset of the run.
        split: "train", "val" or "test". The temperature is fitted on val of the same dataset.
        device: "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:N".
        seed: The seed of the intervals.

    Returns:
        The Judgment: `figures` by name, `scores` and `auroc` of each class, `pairs` that are
        confused, `calibration`, the `answers` for each image. A LabelJudgment if images have
        several labels: it also has `average_precision`, and no `pairs`.

    Raises:
        SlipformError: See `Classifier.load` and `Classifier.evaluate`; or the logits do not fit
            into memory.

    Example:
        ```python
        import slipform as sf

        judged = sf.judge("runs/first")
        print(judged.figures["auroc"])
        for pair in judged.pairs[:3]:
            print(judged.classes[pair.actual], judged.classes[pair.predicted], pair.images)
        ```
    """
    return judge_any(Classifier.load(run, device), data, split, seed)


def judge_any(
    classifier: Classifier, data: Path | str | None = None, split: str = "test", seed: int = 0
) -> Judgment | LabelJudgment:
    """Judge a model on a split, as its images have one label or several.

    Args:
        classifier: The model.
        data: A folder that prep wrote, or its URL. Default: the dataset of the run.
        split: "train", "val" or "test".
        seed: The seed of the intervals.

    Raises:
        SlipformError: See `Classifier.evaluate`; or the logits do not fit into memory.
    """
    if classifier.thresholds is not None:
        return judge_labels(classifier, data, split, seed)
    return judge_model(classifier, data, split, seed)


def judge_model(
    classifier: Classifier, data: Path | str | None = None, split: str = "test", seed: int = 0
) -> Judgment:
    """Judge a model on a split: figures with intervals, classes, pairs, calibration.

    Args:
        classifier: The model; its images have one label.
        data: A folder that prep wrote, or its URL. Default: the dataset of the run.
        split: "train", "val" or "test". The temperature is fitted on val of the same dataset.
        seed: The seed of the intervals.

    Raises:
        SlipformError: See `Classifier.evaluate`; or the logits do not fit into memory.
    """
    answers = answers_of(classifier, data, split)
    val = answers if split == "val" else None
    if split != "val" and _has_val(classifier, data):
        val = answers_of(classifier, data, "val")
    return judge_answers(split, classifier.classes, answers, val, seed)


def judge_labels(
    classifier: Classifier, data: Path | str | None = None, split: str = "test", seed: int = 0
) -> LabelJudgment:
    """Judge a model whose images have several labels on a split.

    Args:
        classifier: The model; its `thresholds` are used.
        data: A folder that prep wrote, or its URL. Default: the dataset of the run.
        split: "train", "val" or "test".
        seed: The seed of the intervals.

    Raises:
        SlipformError: See `Classifier.evaluate`; or the logits do not fit into memory.
    """
    assert classifier.thresholds is not None
    answers = label_answers_of(classifier, data, split)
    val = answers if split == "val" else None
    if split != "val" and _has_val(classifier, data):
        val = label_answers_of(classifier, data, "val")
    return label_judgment.judge_labels(
        split, classifier.classes, answers, classifier.thresholds, val, seed
    )


def _has_val(classifier: Classifier, data: Path | str | None) -> bool:
    """Whether there are images of val, for the temperature."""
    config = classifier.settings_for(data)
    return has_images(config, read_manifest(config.data.folder), "val")
