"""A run whose numbers are not finite any more: the record and the error.

In: a run and what went wrong. Out: `Diverged`, which says which checkpoint is from before and what
to try.
"""

from __future__ import annotations

from slipform.pipelines.errors import SlipformError
from slipform.train.run.checkpoint import checkpoints
from slipform.train.run.open import Run


class Diverged(SlipformError):
    """The loss or the weights are not finite any more."""


def diverged(run: Run, what: str) -> Diverged:
    """Record that a run diverged.

    Args:
        run: The run.
        what: What is not finite, such as "the loss of step 3 is nan".

    Returns:
        The error to raise.
    """
    run.recorder.diverged(run.state.step, run.state.epoch + 1, what)
    saved = checkpoints(run.folder)
    last = f"The checkpoint {saved[0]} is from before" if saved else "There is no checkpoint yet"
    return Diverged(
        f"training diverged: {what}. {last}. Try a lower optimizer.lr (it is"
        f" {run.config.optimizer.lr}), schedule.warmup_epochs or train.clip_norm."
    )
