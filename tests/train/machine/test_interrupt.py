"""The first signal is a request to stop. Later ones end the process, except in runs of a sweep."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from slipform.train.machine.interrupt import SWEEP

CODE = """
import sys
from slipform.train.machine.interrupt import watched
with watched() as stop_requested:
    print("ready", flush=True)
    while not stop_requested.wait(0.01):
        pass
    print("asked", flush=True)
    sys.stdin.readline()
    print("ended by itself", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("sweep", [False, True])
def test_a_second_signal_ends_a_process_at_once(number: signal.Signals, sweep: bool) -> None:
    """A killed sweep sends one SIGTERM for each of its threads. Its runs must still write their
    checkpoints."""
    environment = {key: value for key, value in os.environ.items() if key != SWEEP}
    environment |= {SWEEP: str(os.getpid())} if sweep else {}
    with subprocess.Popen(
        [sys.executable, "-c", CODE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.stdout.readline() == "asked\n"
        process.send_signal(number)
        if sweep and number == signal.SIGTERM:
            output, _ = process.communicate("\n")
            assert (output, process.returncode) == ("ended by itself\n", 0)
        else:
            assert process.wait() == -number
