"""SIGTERM and Ctrl-C as a wish, not an accident: the loop finishes its step, writes a checkpoint and ends.

In: nothing. Out: an Event that is set by the first signal; the second one ends the process at once.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def watched() -> Iterator[threading.Event]:
    """Inside, the first signal sets the event. Outside the main thread Python takes no handlers, and none are set."""
    wished = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield wished
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def handle(number: int, frame: FrameType | None) -> None:
        wished.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in _SIGNALS:
        signal.signal(number, handle)
    try:
        yield wished
    finally:
        for number in _SIGNALS:
            signal.signal(number, before[number])
