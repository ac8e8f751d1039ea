"""Closing what its owner has not closed.

In: an object, and a function that closes it. Out: the function is called after the object is freed,
or when Python exits.

Python may free an object in any thread, between any two bytecodes: also in a thread that closing
waits for, or in one that holds a lock. So the function runs in a thread of its own. Python ends a
generator in such a thread, too, if it was left before its end. A `with` block in it must not wait
then: `GeneratorPool`.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any

__all__ = ["THREAD", "GeneratorPool", "close_when_freed"]

THREAD = "slipform-close"  # name of the threads that close


def close_when_freed(
    owner: object, close: Callable[[], None]
) -> weakref.finalize[[Callable[[], None], int], Any]:
    """Let a function be called after an object is freed, or at exit. A fork does not call it.

    Args:
        owner: The object.
        close: Closes it. It has no reference to the object, and may wait for threads.

    Returns:
        Its `detach` takes the call back.
    """
    return weakref.finalize(owner, _close, close, os.getpid())


def _close(close: Callable[[], None], process: int) -> None:
    if process != os.getpid():  # the threads are in the parent
        return
    if threading.main_thread().is_alive():
        # No daemon: Python waits for it before it exits.
        threading.Thread(target=close, name=THREAD).start()
    else:  # Python exits, and may begin no threads
        close()


class GeneratorPool(ThreadPoolExecutor):
    """A pool of threads for the `with` block of a generator.

    At the end of the block it waits for its threads, unless the generator was left: the thread that
    then ends it may be one of them, or hold a lock that they wait for. They end after their calls.
    """

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the threads."""
        self.shutdown(wait=kind is not GeneratorExit)
