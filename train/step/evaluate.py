"""Loss and accuracy of a model on a split.

In: a state, a loader with training=False, this process. Out: an Evaluation, the same on every
process. Every image counts once, with any batch size and any number of processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from slipform.pipelines.batch import Batch
from slipform.pipelines.loader import Loader
from slipform.train.machine.distributed import Process
from slipform.train.step.metrics import Evaluation, Totals
from slipform.train.step.state import StepFunctions, TrainState
from slipform.train.step.step import eval_step

__all__ = ["count", "evaluate"]


def evaluate(
    state: TrainState,
    loader: Loader,
    process: Process,
    each: Callable[[], object] = lambda: None,
) -> Evaluation:
    """Evaluate a state on the split of a loader.

    Args:
        state: Its evaluated model is set to evaluation mode.
        loader: A loader with training=False; it is read to its end.
        process: This process; every process calls this function.
        each: Called after every batch.
    """
    # DDP copies BatchNorm's statistics before each forward pass of training. After the last pass
    # they differ between processes.
    process.broadcast(state.evaluated.buffers())
    state.evaluated.eval()
    return count(state.functions, loader, process, loader.manifest.num_classes, each)


def count(
    functions: StepFunctions,
    batches: Iterable[Batch],
    process: Process,
    num_classes: int,
    each: Callable[[], object] = lambda: None,
) -> Evaluation:
    """Evaluate on the batches of all processes. The model is in evaluation mode already.

    Args:
        functions: Its `evaluate`, `precision` and `flip_test` are used.
        batches: Batches of this process, on the device. Labels are 0..num_classes - 1, or -100:
            not counted.
        process: This process; every process calls this function.
        num_classes: The number of logits.
        each: Called after every batch.

    Returns:
        Loss and accuracy over the batches of all processes.
    """
    totals = Totals.zeros(num_classes, process.device)
    for batch in batches:
        eval_step(functions, batch, totals)
        each()
    process.all_reduce(totals.confusion)
    process.all_reduce(totals.sums)
    return totals.result()
