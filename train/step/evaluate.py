"""How good a model is on a split: every image counted once, whatever the batch size and the number
of processes.

In: a state, a loader that does not train, this process. Out: an Evaluation, the same on every
process.
"""

from __future__ import annotations

from slipform.pipelines.loader import Loader
from slipform.train.config.sections import RunConfig
from slipform.train.machine.distributed import Process
from slipform.train.step.metrics import Evaluation, Totals
from slipform.train.step.state import TrainState
from slipform.train.step.step import eval_step


def evaluate(state: TrainState, loader: Loader, process: Process) -> Evaluation:
    """One pass over the loader's split. Leaves the evaluated model in evaluation mode."""
    # DDP shares BatchNorm's statistics before each forward pass of training, so not those of the
    # last one.
    process.broadcast(state.evaluated.buffers())
    state.evaluated.eval()
    totals = Totals.zeros(loader.manifest.num_classes, process.device)
    for batch in loader:
        eval_step(state, batch, totals)
    process.all_reduce(totals.confusion)
    process.all_reduce(totals.sums)
    return totals.result()


def open_split(
    config: RunConfig, split: str, state: TrainState, process: Process, batch_size: int
) -> Loader:
    """A loader over a split in its stored order, as this run's configuration has it."""
    return Loader(
        config.data.folder,
        split,
        config.augment,
        batch_size=batch_size,
        training=False,
        executor=config.data.executor,
        device=process.device,
        dtype=state.functions.precision,
        rank=process.rank,
        world_size=process.world_size,
        threads=config.data.threads,
        prefetch=config.data.prefetch,
        on_bad=config.data.on_bad,
    )
