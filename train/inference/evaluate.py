"""`evaluate`: the loss and accuracy of a run, in one call.

In: a run folder, and a dataset folder if it is not the run's. Out: an Evaluation.
"""

from __future__ import annotations

from pathlib import Path

from slipform.train.inference.classifier import Classifier
from slipform.train.step.evaluate import AnyEvaluation

__all__ = ["evaluate"]


def evaluate(
    run: Path | str, data: Path | str | None = None, split: str = "test", device: str = "auto"
) -> AnyEvaluation:
    """Measure loss and accuracy of the best epoch of a run on a split of a dataset.

    Args:
        run: The run folder.
        data: A folder that prep wrote, or its URL. Default: the dataset of the run.
        split: "train", "val" or "test".
        device: "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:N".

    Returns:
        Loss, top-1, top-5 and the confusion matrix. If images have several labels: loss, mAP, F1
        and AUROC of each class.

    Raises:
        SlipformError: See `Classifier.load` and `Classifier.evaluate`.

    Example:
        ```python
        import slipform as sf

        print(sf.evaluate("runs/first").top1)
        ```
    """
    return Classifier.load(run, device).evaluate(data, split)
