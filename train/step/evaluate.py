"""Loss and accuracy of a model on a split.

In: a state, a loader that does not train, this process. Out: an Evaluation, the same on every
process. Every image is counted once, whatever the batch size and the number of processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from slipform.pipelines.batch import Batch
from slipform.pipelines.loader import Loader
from slipform.train.machine.distributed import Process
from slipform.train.step.metrics import Evaluation, Totals
from slipform.train.step.state import StepFunctions, TrainState
from slipform.train.step.step import eval_step


def evaluate(
    state: TrainState,
    loader: Loader,
    process: Process,
    each: Callable[[], object] = lambda: None,
) -> Evaluation:
    """Evaluate a state on a loader's split.

    Args:
        state: Its evaluated model is left in evaluation mode.
        loader: One that does not train; it is read to its end.
        process: This process; every process calls this.
        each: Called after every batch.
    """
    # DDP copies BatchNorm's statistics before each forward pass of training: those of the last pass
    # still differ.
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
    """Evaluate on batches of all processes. The model is in evaluation mode already.

    Args:
        functions: `evaluate` gives the logits, with `precision` and `flip_test`.
        batches: Batches on the device; labels are in 0..num_classes - 1, or -100 (not counted).
        process: This process.
        num_classes: Classes of the model.
        each: Called after every batch.
    """
    totals = Totals.zeros(num_classes, process.device)
    for batch in batches:
        eval_step(functions, batch, totals)
        each()
    process.all_reduce(totals.confusion)
    process.all_reduce(totals.sums)
    return totals.result()
