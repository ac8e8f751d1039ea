"""Signals that ask a process to end: the loop finishes its step, writes a checkpoint and ends.

In: Ctrl-C, SIGTERM, SIGHUP (the terminal is closed) and SIGUSR1 (Slurm's --signal). Out: an Event
that the first signal sets; the second one ends the process at once. Runs of a sweep get SIGTERM
when the sweep ends.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from slipform.pipelines.errors import Interrupted

__all__ = ["SWEEP", "end_with_sweep", "watched"]

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
SWEEP = "SLIPFORM_SWEEP"  # the environment variable in which a sweep tells its runs who it is
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def end_with_sweep() -> None:
    """Have SIGTERM sent to this process when the sweep that started it ends, however it ends.

    Nothing happens in a process that no sweep started.

    Raises:
        Interrupted: The sweep has ended already.
    """
    sweep = os.environ.get(SWEEP)
    if sweep is None:
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(sweep):  # it ended before it could be asked for
        raise Interrupted("the sweep that started this run has ended")


@contextmanager
def watched() -> Iterator[threading.Event]:
    """Turn the first signal into an event. Handlers are put back at the end.

    Ignored signals stay ignored. Python sets handlers in the main thread only; in another thread
    nothing sets the event.

    Yields:
        The event.
    """
    requested = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield requested
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    # nohup has SIGHUP ignored, and a shell SIGINT of what it runs in the background.
    ours = [number for number in _SIGNALS if before[number] != signal.SIG_IGN]

    def handle(number: int, frame: FrameType | None) -> None:
        requested.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in ours:
        signal.signal(number, handle)
    try:
        yield requested
    finally:
        for number in ours:
            signal.signal(number, before[number])
