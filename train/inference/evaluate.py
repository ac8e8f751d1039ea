"""How good a run is, in one call: `evaluate`.

In: a run folder and, where it is not the run's own, a dataset folder. Out: an Evaluation.
"""

from __future__ import annotations

from pathlib import Path

from slipform.train.inference.classifier import Classifier
from slipform.train.step.metrics import Evaluation

__all__ = ["evaluate"]


def evaluate(
    run: Path | str, data: Path | str | None = None, split: str = "test", device: str = "auto"
) -> Evaluation:
    """How good the best epoch of a run is on a split: `Classifier.load` and its `evaluate`.

    Args:
        run: The run folder.
        data: A folder that prep wrote. Default: the dataset of the run.
        split: "train", "val" or "test".
        device: "auto", "cpu", "cuda" or "cuda:N".

    Returns:
        Loss, top-1, top-5 and the confusion matrix.

    Raises:
        SlipformError: As `Classifier.load` and `Classifier.evaluate`.

    Example:
        ```python
        import slipform as sf

        print(sf.evaluate("runs/first").top1)
        ```
    """
    return Classifier.load(run, device).evaluate(data, split)
