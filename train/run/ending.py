"""How a run ends before its last epoch: a checkpoint, then an exception.

In: a run between two steps, or during a validation. Out: a checkpoint, and `Interrupted` or the
error of the object store. `await_samples` is for datasets in an object store: it waits where a
checkpoint can be written, and not in the middle of a step.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NoReturn

from slipform.pipelines.errors import Interrupted, SlipformError, StorageError
from slipform.pipelines.loader import Loader
from slipform.train.machine.distributed import Requests
from slipform.train.run import losses
from slipform.train.run.divergence import diverged
from slipform.train.run.open import Run

__all__ = ["await_samples", "awaiting", "save", "stop"]


def save(run: Run) -> None:
    """Write a checkpoint.

    Args:
        run: The run, between two steps.

    Raises:
        Diverged: A loss or a weight is not finite; no checkpoint was written.
    """
    losses.read(run)
    with run.counters.paused():
        if not run.state.is_finite():
            what = f"after step {run.state.step} some weights are infinite or not a number"
            raise diverged(run, what)
        run.save()


def stop(run: Run, problem: SlipformError | None = None) -> NoReturn:
    """Write a checkpoint, and end the run.

    Args:
        run: The run, between two steps.
        problem: What to raise, from `await_samples`. None: Interrupted.

    Raises:
        SlipformError: Always: the problem, or that the weights are not finite.
    """
    save(run)
    run.checkpoints.wait()
    raise problem or _stopped(run)


def await_samples(run: Run, loader: Loader, count: int = 1) -> SlipformError | None:
    """Wait for the samples of the next batches, if they are in an object store.

    All processes call this together, and all of them get an error if one of them does.

    Args:
        run: The run.
        loader: One of its loaders.
        count: How many batches of this epoch.

    Returns:
        None: they are there. Otherwise what ends the run: it was asked to stop, or the object store
        does not answer.
    """
    sequence = loader.sequence
    if not sequence.is_remote:
        return None
    began, problem = time.perf_counter(), None
    try:
        there = sequence.await_samples(count)
    except StorageError as error:
        there, problem = False, error
    if loader is run.train:
        run.counters.waited(time.perf_counter() - began)
    if not run.agreement.now(Requests(stop=not there)).stop:
        return None
    return problem or _stopped(run)


def awaiting(
    run: Run, loader: Loader, each: Callable[[], object] = lambda: None
) -> Callable[[], None]:
    """Wait for the samples of the first batch of an evaluation, as `await_samples` does.

    Args:
        run: The run.
        loader: A loader with training=False.
        each: Called after every batch.

    Returns:
        A function to call after every batch, which also waits for the samples of the next one.

    Raises:
        SlipformError: Now or in that function: what ends the run.
    """
    left = len(loader)

    def wait() -> None:
        if left and (problem := await_samples(run, loader)) is not None:
            raise problem

    def after_batch() -> None:
        nonlocal left
        each()
        left -= 1
        wait()

    wait()
    return after_batch


def _stopped(run: Run) -> Interrupted:
    return Interrupted(
        f"stopped after step {run.state.step}; a checkpoint was written. Continue with: train"
        f" --resume {run.folder}"
    )
