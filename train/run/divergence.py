"""The record and the error of a run whose loss or weights are not finite any more.

In: a run and what is not finite. Out: `Diverged`; its text names the last checkpoint and what to
try.
"""

from __future__ import annotations

from slipform.pipelines.errors import SlipformError
from slipform.train.run.checkpoint import checkpoints
from slipform.train.run.open import Run

__all__ = ["Diverged", "diverged"]


class Diverged(SlipformError):
    """The loss or the weights are not finite any more."""


def diverged(run: Run, what: str) -> Diverged:
    """Record that a run diverged, and make the error to raise.

    Args:
        run: The run.
        what: What is not finite, such as "the loss of step 3 is nan".
    """
    run.recorder.diverged(run.state.step, run.state.epoch + 1, what)
    run.checkpoints.wait()
    saved = checkpoints(run.folder)
    last = (
        f"The last checkpoint before that is {saved[0]}" if saved else "There is no checkpoint yet"
    )
    return Diverged(
        f"training diverged: {what}. {last}. Try a lower optimizer.lr (it is"
        f" {run.config.optimizer.lr}), schedule.warmup_epochs or train.clip_norm."
    )
