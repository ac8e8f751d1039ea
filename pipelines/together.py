"""Several slow calls at a time: `together`.

In: a call and its arguments. Out: the results in their order, or the first error at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from slipform.pipelines.stopping import check
from slipform.pipelines.workers import Workers

__all__ = ["together"]

A = TypeVar("A")
T = TypeVar("T")


def together(
    call: Callable[[A], T],
    items: Sequence[A],
    at_once: int,
    place: str,
    drop: Callable[[A], object] = lambda item: None,
) -> list[T]:
    """Make a call for each item, in threads, and wait for all of them.

    An error, Ctrl-C or a request to stop ends the waiting. Calls under way then end on their own,
    and the others are not made.

    Args:
        call: The call.
        items: Its arguments.
        at_once: How many calls are made at a time, at most.
        place: What is waited for, for the message.
        drop: Called for each item whose call is not made.

    Returns:
        The results, in the order of the items.

    Raises:
        Interrupted: This process is asked to stop.
        BaseException: What a call raised; of several, that of the first item.
    """
    abandoned = False

    def make(item: A) -> T | None:
        if not abandoned:
            return call(item)
        drop(item)
        return None

    workers = Workers(min(at_once, len(items)), "slipform-together")
    try:
        tasks = [workers.submit(partial(make, item)) for item in items]
        return [task.result(partial(check, place)) for task in tasks]  # type: ignore[misc]
    finally:
        abandoned = True
        workers.close(wait=False)
