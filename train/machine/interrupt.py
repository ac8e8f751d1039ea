"""Signals that ask a process to end: the loop finishes its step, writes a checkpoint and ends.

In: Ctrl-C, SIGTERM, SIGHUP (the terminal is gone) and SIGUSR1 (Slurm's --signal). Out: an Event
that the first signal sets; the second one ends the process at once. Runs of a sweep get SIGTERM
when the sweep is gone.
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

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
SWEEP = "SLIPFORM_SWEEP"  # the environment variable in which a sweep tells its runs who it is
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def end_with_sweep() -> None:
    """In a run of a sweep: have SIGTERM sent when the sweep ends, however it ends. Else nothing."""
    sweep = os.environ.get(SWEEP)
    if sweep is None:
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(sweep):  # it ended before it could be asked for
        raise Interrupted("the sweep that started this run has ended")


@contextmanager
def watched() -> Iterator[threading.Event]:
    """Inside, the first signal sets the event. Signals that were ignored stay ignored. Outside the
    main thread Python takes no handlers, and none are set."""
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
