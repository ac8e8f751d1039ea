"""The checkpoints of a run: `Checkpoints`. On a GPU a thread writes them while training continues.

In: the content of a checkpoint. Out: its file. The copy to the host is enqueued at once, so later
steps do not change what is written. Only one copy exists at a time.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from slipform.pipelines.workers import Task, Workers
from slipform.train.run import checkpoint
from slipform.train.step.download import Download

__all__ = ["Checkpoints"]


class Checkpoints:
    """Writes checkpoints in the order of the calls.

    Args:
        run: The run folder.
        keep: The number of checkpoints to keep, the newest ones.
        ahead: Whether a thread writes them, and `save` returns before that.
    """

    def __init__(self, run: Path, keep: int, *, ahead: bool) -> None:
        self._run, self._keep = run, keep
        self._writer = Workers(1, "slipform-checkpoint") if ahead else None
        self._pending: Task[None] | None = None

    def save(self, step: int, content: dict[str, Any]) -> None:
        """Write a checkpoint, after the one before it is written.

        Args:
            step: Steps of the optimizer so far.
            content: Tensors and plain values, which may change after the call.

        Raises:
            SlipformError: This checkpoint or the one before it cannot be written.
        """
        self.wait()
        if self._writer is None:
            checkpoint.save(self._run, step, content, keep=self._keep)
            return
        self._pending = self._writer.submit(partial(self._write, step, _sent(content)))

    def _write(self, step: int, content: Any) -> None:
        checkpoint.save(self._run, step, _received(content), keep=self._keep)

    def wait(self) -> None:
        """Wait until the last checkpoint is written.

        Raises:
            SlipformError: It cannot be written.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def close(self) -> None:
        """Wait for the last checkpoint, whatever its result, and end the thread."""
        if self._writer is not None:
            self._writer.settle()
            self._writer.close()
            self._writer = self._pending = None


def _sent(value: Any) -> Any:
    """The same dictionaries and lists, with a Download for each tensor."""
    if isinstance(value, Tensor):
        return Download(value)
    if isinstance(value, dict):
        return {key: _sent(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_sent(one) for one in value)
    return value


def _received(value: Any) -> Any:
    """What `_sent` was given, with tensors on the host."""
    if isinstance(value, Download):
        return value.result()
    if isinstance(value, dict):
        return {key: _received(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_received(one) for one in value)
    return value
