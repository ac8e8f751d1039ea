"""One measured run of `bench suspects`.

In: a dataset folder, a recipe, settings. Out: how well each method finds labels that were flipped;
or the processor time of a training.
"""

from __future__ import annotations

import importlib.util
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["average_precision", "find_flipped", "train_seconds"]

_Bools = npt.NDArray[np.bool_]


def find_flipped(
    data: str, recipe: str, sets: tuple[str, ...], device: str, runs: str, share: float, seed: int
) -> dict[str, dict[str, float]]:
    """Flip labels, train, and compare the methods, in this process.

    Args:
        data: The dataset folder.
        recipe: The name or path of a recipe.
        sets: Texts "SECTION.KEY=VALUE".
        device: "cpu" or "cuda".
        runs: The folder for the dataset and the run.
        share: The share of the training labels that are flipped.
        seed: Of the flips and of the run.

    Returns:
        Method -> average_precision_share, precision_share, recall_share.
    """
    from slipform.bench.race.flipped import flip_labels
    from slipform.train.inference.classifier import Classifier
    from slipform.train.inference.suspects import suspects_of

    folder = Path(runs) / f"data-{seed}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    wrong, run = flip_labels(Path(data), folder, share, seed), Path(runs) / f"run-{seed}"
    _train(str(folder), recipe, sets, device, run, True, seed)
    found = suspects_of(Classifier.load(run, device))
    flipped = np.zeros(len(found.labels), np.bool_)
    flipped[wrong] = True
    told = np.zeros(len(flipped), np.bool_)
    told[found.suspects.mislabeled] = True
    losses = np.nan_to_num(found.suspects.losses, nan=-np.inf)
    results = {"slipform": _figures(flipped, told, losses)}
    if importlib.util.find_spec("cleanlab") is not None:
        results |= _of_cleanlab(found.suspects.answers, flipped)
    shutil.rmtree(folder)
    return results


def _of_cleanlab(answers: Any, flipped: _Bools) -> dict[str, dict[str, float]]:
    """cleanlab's default filter with each of its scores, on the model's own predictions."""
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    shares = np.exp(answers.log_probability(slice(None)))
    shares /= shares.sum(1, keepdims=True)
    told = find_label_issues(answers.labels, shares, n_jobs=1)
    there = flipped[answers.indices]
    return {
        f"cleanlab, {score}": _figures(
            there, told, -get_label_quality_scores(answers.labels, shares, method=score)
        )
        for score in ("self_confidence", "normalized_margin")
    }


def _figures(flipped: _Bools, told: _Bools, suspicion: npt.NDArray[np.float64]) -> dict[str, float]:
    right = int((flipped & told).sum())
    return {
        "average_precision_share": average_precision(flipped, suspicion),
        "precision_share": right / max(int(told.sum()), 1),
        "recall_share": right / max(int(flipped.sum()), 1),
    }


def average_precision(positive: _Bools, scores: npt.NDArray[np.float64]) -> float:
    """The mean precision at the ranks of the positive samples. Equal scores keep their order.

    Args:
        positive: bool [N], at least one True.
        scores: float [N]; high scores come first.
    """
    hits = positive[np.argsort(-scores, kind="stable")]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(precision[hits].mean())


def train_seconds(
    data: str, recipe: str, sets: tuple[str, ...], device: str, runs: str, on: bool
) -> float:
    """The processor time of a training, in this process.

    Args:
        data: The dataset folder.
        recipe: The name or path of a recipe.
        sets: Texts "SECTION.KEY=VALUE".
        device: "cpu" or "cuda".
        runs: The folder for the run.
        on: Whether loss, margin and correctness of the images are kept.
    """
    run = Path(runs) / "cost"
    began = time.process_time()
    _train(data, recipe, sets, device, run, on, 0)
    return time.process_time() - began


def _train(
    data: str, recipe: str, sets: tuple[str, ...], device: str, run: Path, on: bool, seed: int
) -> None:
    from slipform.bench.race.ab_run import settings_of
    from slipform.train.run.loop import fit

    # No measurement of "auto": its time differs from run to run.
    fixed = ("train.auto_seconds=0", f"records.samples={'true' if on else 'false'}")
    config = settings_of(data, recipe, (*sets, *fixed), seed)
    fit(config, data, run, device=device, quiet=True, overwrite=True)
