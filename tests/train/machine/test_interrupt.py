"""The first signal is a request to stop. Later ones end the process, except in runs of a sweep and
in processes of torchrun, which end when their parent does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from slipform.train.machine.interrupt import SWEEP

TORCHRUN = "TORCHELASTIC_RUN_ID"

CODE = """
import sys, time
from slipform.train.machine.interrupt import watched
with watched() as stop_requested:
    print("ready", flush=True)
    while not stop_requested.is_set():
        time.sleep(0.01)
    print("asked", flush=True)
    sys.stdin.readline()
    print("ended by itself", flush=True)
"""


# A parent starts CODE in the environment of torchrun, says its process id, and waits.
PARENT = """
import subprocess, sys
code = "from slipform.train.machine import interrupt; interrupt.end_with_parent()" + sys.argv[1]
print(subprocess.Popen([sys.executable, "-c", code]).pid, flush=True)
sys.stdin.readline()
"""


def _environment(parent: str) -> dict[str, str]:
    plain = {key: value for key, value in os.environ.items() if key not in (SWEEP, TORCHRUN)}
    added = {"": {}, "sweep": {SWEEP: str(os.getpid())}, "torchrun": {TORCHRUN: "run"}}
    return plain | added[parent]


@contextmanager
def _started(code: str, parent: str, word: str) -> Iterator[subprocess.Popen[str]]:
    """A process that runs code, and has printed a word."""
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=_environment(parent),
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"{word}\n"
        yield process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("parent", ["", "sweep", "torchrun"])
def test_a_second_signal_ends_a_process_at_once(number: signal.Signals, parent: str) -> None:
    """A killed sweep sends one SIGTERM for each of its threads. A scheduler sends a signal to all
    processes of a job, and torchrun passes it on. The runs must still write their checkpoints."""
    with _started(CODE, parent, "ready") as process:
        process.send_signal(number)
        assert process.stdout is not None
        assert process.stdout.readline() == "asked\n"
        process.send_signal(number)
        if parent == "torchrun" or (parent == "sweep" and number == signal.SIGTERM):
            output, _ = process.communicate("\n")
            assert (output, process.returncode) == ("ended by itself\n", 0)
        else:
            assert process.wait() == -number


def test_signals_that_interrupt_each_other() -> None:
    with _started(CODE, "torchrun", "ready") as process:
        for _ in range(200):
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
                process.send_signal(number)
        assert process.communicate("\n")[0] == "asked\nended by itself\n"
        assert process.returncode == 0


@pytest.mark.parametrize("parent", ["", "torchrun"])
def test_the_message_of_an_error_is_written_before_torchrun_ends_the_process(parent: str) -> None:
    code = """
import sys
from slipform.train.machine.interrupt import watched
try:
    with watched():
        raise ValueError
except ValueError:
    print("raised", flush=True)
    sys.stdin.readline()
    print("written", flush=True)
"""
    with _started(code, parent, "raised") as process:
        process.send_signal(signal.SIGTERM)
        if parent:
            assert process.communicate("\n")[0] == "written\n"
            assert process.returncode == 0
        else:
            assert process.wait() == -signal.SIGTERM


def test_a_process_whose_torchrun_was_killed_is_asked_to_stop() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, CODE.replace("sys.stdin.readline()", "")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=_environment("torchrun"),
    ) as parent:
        assert parent.stdout is not None
        assert sorted([parent.stdout.readline().strip().isdecimal() for _ in "ab"]) == [False, True]
        parent.kill()
        assert parent.stdout.read() == "asked\nended by itself\n"  # of the child, to its end
