"""How good a model is on a split: every image counted once, whatever the batch size and the number
of processes.

In: a state, a loader that does not train, this process. Out: an Evaluation, the same on every
process.
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
    """One pass over the loader's split; `each` is called after every batch. Leaves the evaluated
    model in evaluation mode."""
    # DDP shares BatchNorm's statistics before each forward pass of training, so not those of the
    # last one.
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
    """The result over all batches of all processes; the model is in evaluation mode already.

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
