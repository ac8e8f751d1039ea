"""Loss and accuracy of a model on a split.

In: a state, a loader with training=False, this process. Out: an Evaluation, or a LabelEvaluation if
images have several labels; the same on every process. Every image counts once, with any batch size
and any number of processes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from slipform.pipelines.batch import Batch
from slipform.pipelines.label_table import LabelKind
from slipform.pipelines.loader import Loader
from slipform.train.machine.distributed import Process
from slipform.train.step.label_metrics import LabelEvaluation, LabelTotals
from slipform.train.step.metrics import Evaluation, Totals
from slipform.train.step.state import StepFunctions, TrainState
from slipform.train.step.step import eval_step

__all__ = ["AnyEvaluation", "count", "evaluate", "recorded", "totals_of"]

AnyEvaluation = Evaluation | LabelEvaluation


def evaluate(
    state: TrainState,
    loader: Loader,
    process: Process,
    each: Callable[[], object] = lambda: None,
    thresholds: Sequence[float] = (),
) -> AnyEvaluation:
    """Evaluate a state on the split of a loader.

    Args:
        state: Its evaluated model is set to evaluation mode.
        loader: A loader with training=False; it is read to its end.
        process: This process; every process calls this function.
        each: Called after every batch.
        thresholds: Thresholds of several labels, for F1; none: 0.5.
    """
    # DDP copies BatchNorm's statistics before each forward pass of training. After the last pass
    # they differ between processes.
    process.broadcast(state.evaluated.buffers())
    state.evaluated.eval()
    totals = totals_of(loader, process, loader.num_classes, thresholds)
    return count(state.functions, loader, process, totals, each)


def totals_of(
    loader: Loader, process: Process, num_classes: int, thresholds: Sequence[float] = ()
) -> Totals | LabelTotals:
    """New totals for the kind of labels of a dataset.

    Args:
        loader: The loader of the split.
        process: This process, which has the device.
        num_classes: The number of logits.
        thresholds: Thresholds of several labels; none: 0.5.
    """
    if loader.manifest.labels == "multi":
        return LabelTotals(loader.num_samples, num_classes, process.device, thresholds)
    return Totals.zeros(num_classes, process.device)


def count(
    functions: StepFunctions,
    batches: Iterable[Batch],
    process: Process,
    totals: Totals | LabelTotals,
    each: Callable[[], object] = lambda: None,
) -> AnyEvaluation:
    """Evaluate on the batches of all processes. The model is in evaluation mode already.

    Args:
        functions: Its `evaluate`, `precision` and `flip_test` are used.
        batches: Batches of this process, on the device. Labels of -100 are not counted.
        process: This process; every process calls this function.
        totals: New totals; see `totals_of`.
        each: Called after every batch.

    Returns:
        Loss and accuracy over the batches of all processes.
    """
    for batch in batches:
        eval_step(functions, batch, totals)
        each()
    for tensor in totals.tensors:
        process.all_reduce(tensor)
    return totals.result()


def recorded(
    split: str, result: AnyEvaluation | None, labels: LabelKind
) -> dict[str, float | None]:
    """A result as numbers for the records.

    Args:
        split: "val" or "test", which the names begin with.
        result: None: there are no images.
        labels: The manifest's `labels`.

    Returns:
        SPLIT_loss; SPLIT_accuracy, which is mAP if images have several labels; and SPLIT_top5, or
        SPLIT_f1 and SPLIT_auroc. None where there is no number: JSON has no nan.
    """
    if result is None:
        further = ("f1", "auroc") if labels == "multi" else ("top5",)
        return {f"{split}_{name}": None for name in ("loss", "accuracy", *further)}
    found = {"loss": result.loss, "accuracy": result.headline, **result.values}
    # A loss that is not finite means that the run diverged.
    return {
        f"{split}_{name}": None if math.isnan(value) and name != "loss" else value
        for name, value in found.items()
    }
