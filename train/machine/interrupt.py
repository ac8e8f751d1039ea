"""Signals that stop a run: the loop finishes its step, writes a checkpoint and ends.

In: Ctrl-C, SIGTERM, SIGHUP (the terminal is closed) and SIGUSR1 (Slurm's --signal). Out: a
`StopRequest` that the first signal sets. The second signal ends a process at once that was started
by hand. The runs of a sweep and the processes of torchrun get SIGTERM when the sweep or torchrun
ends.
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
from slipform.pipelines.stopping import stops_when

__all__ = ["SWEEP", "StopRequest", "end_with_parent", "watched"]

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
SWEEP = "SLIPFORM_SWEEP"  # an environment variable: a sweep gives its runs its process id
_TORCHRUN = "TORCHELASTIC_RUN_ID"  # torchrun sets it
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class StopRequest:
    """Whether a run is asked to stop.

    Unlike `threading.Event` it has no lock. A handler that waits for a lock would never return: the
    main thread has the lock, or another handler that was interrupted by this one.
    """

    def __init__(self) -> None:
        self._is_set = False

    def set(self) -> None:
        """Ask the run to stop."""
        self._is_set = True

    def is_set(self) -> bool:
        """Whether the run is asked to stop."""
        return self._is_set


def end_with_parent() -> None:
    """Make the kernel send SIGTERM to this process when the sweep or torchrun that started it ends.

    This also works if that was killed. It does nothing in a process that was started by hand.

    Raises:
        Interrupted: The sweep has ended already.
    """
    sweep = os.environ.get(SWEEP)
    if sweep is None and _TORCHRUN not in os.environ:
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if sweep is not None and os.getppid() != int(sweep):  # it ended before the call above
        raise Interrupted("the sweep that started this run has ended")


@contextmanager
def watched() -> Iterator[StopRequest]:
    """Turn the first signal into a request to stop.

    A second signal has its usual effect. In a run of a sweep a second SIGTERM has none, and in a
    process of torchrun no second signal has any: the sweep and torchrun end a process by SIGKILL.
    The old handlers are restored at the end, but not after an exception in a process of torchrun.
    Ignored signals stay ignored. Python can set handlers in the main thread only: in another thread
    no signal sets the request.
    Waiting for an object store ends when it is set.

    Yields:
        The request.
    """
    requested = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield requested
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    # nohup ignores SIGHUP, and a shell ignores SIGINT for commands in the background.
    ours = [number for number in _SIGNALS if before[number] != signal.SIG_IGN]

    def handle(number: int, frame: FrameType | None) -> None:
        requested.set()
        # The kernel sends one SIGTERM for each thread of a killed sweep. A scheduler sends a signal
        # to all processes of a job, and torchrun passes it on to its processes.
        repeated = _TORCHRUN in os.environ or (number == signal.SIGTERM and SWEEP in os.environ)
        if not repeated:
            signal.signal(number, before[signal.Signals(number)])

    for number in ours:
        signal.signal(number, handle)
    try:
        with stops_when(requested.is_set):
            yield requested
    except BaseException:
        if _TORCHRUN in os.environ:
            # torchrun sends SIGTERM as soon as another process has failed. The message of this one
            # must still be written.
            ours.clear()
        raise
    finally:
        for number in ours:
            signal.signal(number, before[number])
