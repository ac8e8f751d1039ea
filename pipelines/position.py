"""The position of a Loader: its properties and methods for users, and the way to a saved one.

In: a BatchSequence. Out: the properties and methods that `Loader` inherits; a moved position.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slipform.pipelines.errors import ConfigError
from slipform.pipelines.limits import whole
from slipform.pipelines.sequence import BatchSequence

__all__ = ["HasPosition", "restore"]


class HasPosition:
    """A base class of `Loader`.

    Attributes:
        sequence: The position and the order of the samples.
    """

    sequence: BatchSequence

    @property
    def epoch(self) -> int:
        """The epoch of the next batch, from 0."""
        return self.sequence.done.epoch

    @property
    def seen(self) -> int:
        """Samples of this epoch that were handed out, over all processes."""
        return self.sequence.done.seen

    @property
    def num_bad(self) -> int:
        """Samples that could not be read. A sample counts in each epoch."""
        return self.sequence.done.num_bad

    @property
    def remaining_batches(self) -> int:
        """Batches of this epoch on this process that were not handed out yet."""
        return self.sequence.remaining_batches

    def set_epoch(self, epoch: int) -> None:
        """Go to the beginning of an epoch. This ends the running loop.

        It is not needed between epochs: the loader counts them. The same epoch number gives the
        same batches.

        Args:
            epoch: The epoch, from 0.

        Raises:
            ConfigError: The epoch is negative or too large.
        """
        self.sequence.go_to(whole("epoch", epoch), 0)


def restore(sequence: BatchSequence, state: dict[str, Any], own: dict[str, Any]) -> None:
    """Go to a saved position.

    Args:
        sequence: What goes there.
        state: The saved `Loader.state_dict`.
        own: The present `Loader.state_dict`.

    Raises:
        ConfigError: The state belongs to another dataset or another order of its samples, or
            this is an evaluation loader.
    """
    if not isinstance(state, Mapping):
        raise ConfigError(f"load_state_dict({state!r:.60}): give what state_dict() returned")
    older = {"block": 0, "sampling": "all", "fold": ""}  # what states of older versions lack
    for key in ("num_samples", "seed", "split", "block", "sampling", "fold"):
        saved = state.get(key, older.get(key))
        if saved != own[key]:
            raise ConfigError(
                f"the saved position belongs to {key} = {saved}, this loader has {own[key]}:"
                " resume with the same one, or start a new run"
            )
    if not sequence.order.drop_last:
        raise ConfigError(
            "an evaluation loader always begins at the beginning: it has no position to load"
        )
    epoch, seen = state.get("epoch"), state.get("seen")
    if type(epoch) is not int or type(seen) is not int:
        raise ConfigError(f"the saved position is damaged: epoch {epoch}, seen {seen}")
    sequence.check_position(epoch, seen)
    sequence.go_to(*sequence.order.next_position(epoch, seen))
