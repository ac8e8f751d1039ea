"""Waiting that ends when this process is asked to stop: `check`, `interruptible`, `pause`.

In: a function that says whether the process is asked to stop, from whoever handles the signals.
Out: `Interrupted` in the main thread, instead of more waiting for an object store.

A handler of a signal runs in the main thread only, and not before a call into compiled code has
returned. So the main thread gives requests to another thread, and looks again and again.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import TypeVar

from slipform.pipelines.errors import Interrupted
from slipform.pipelines.workers import LOOK, Task

__all__ = ["check", "interruptible", "is_asked", "notes_interrupt", "pause", "stops_when"]

T = TypeVar("T")


def _never() -> bool:
    return False


_asked: Callable[[], bool] = _never  # of this process, as signals are


@contextmanager
def stops_when(asked: Callable[[], bool]) -> Iterator[None]:
    """End waiting for object stores during a block as soon as a function returns True.

    Args:
        asked: Says whether this process is asked to stop. It is called often.
    """
    global _asked
    before, _asked = _asked, asked
    try:
        yield
    finally:
        _asked = before


@contextmanager
def notes_interrupt() -> Iterator[None]:
    """Let `is_asked` return True after Ctrl-C during a block.

    `KeyboardInterrupt` is raised as before, but can get lost: Python ignores exceptions in the
    cleanup of objects, and compiled code and `except` may make another error of it. Handlers other
    than Python's own stay, and threads other than the main thread cannot set any.
    """
    own = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not own or threading.current_thread() is not threading.main_thread():
        yield
        return
    noted = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        noted.set()
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, handle)
    try:
        with stops_when(noted.is_set):
            yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def is_asked() -> bool:
    """Whether this process is asked to stop."""
    return _asked()


def check(place: str) -> None:
    """Raise if this process is asked to stop, and this is its main thread.

    Args:
        place: What is waited for, for the message.

    Raises:
        Interrupted: It is asked to stop.
    """
    if _asked() and threading.current_thread() is threading.main_thread():
        raise Interrupted(f"stopped while waiting for {place}")


def interruptible(call: Callable[[], T], place: str) -> T:
    """Make a call that may take long, so that Ctrl-C and a request to stop end the waiting.

    The call then goes on in its thread, and nobody gets its result.

    Args:
        call: The call. In the main thread it is made in a thread of its own.
        place: What is waited for, for the message.

    Raises:
        Interrupted: This process is asked to stop.
    """
    if threading.current_thread() is not threading.main_thread():
        return call()
    task = Task(call)
    threading.Thread(target=task.run, name="slipform-request", daemon=True).start()
    return task.result(partial(check, place))


def pause(seconds: float, place: str) -> None:
    """Sleep. Ctrl-C and a request to stop end it.

    Args:
        seconds: How long.
        place: What is waited for, for the message.

    Raises:
        Interrupted: This process is asked to stop.
    """
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        check(place)
        time.sleep(min(left, LOOK))
