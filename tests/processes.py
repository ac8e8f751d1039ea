"""Waiting for a process of a test.

In: the process, and a condition. Out: nothing, or a failed test. There is no time limit here, so
that no test fails on a busy machine. pytest's timeout ends a test that hangs.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

import pytest


def wait_for(process: subprocess.Popen[str], ready: Callable[[], bool]) -> None:
    """Wait until ready(). The test fails if the process ends before."""
    while not ready():
        if process.poll() is not None:
            output, errors = process.communicate()
            pytest.fail(f"it ended with {process.returncode} before: {output} {errors}")
        time.sleep(0.02)
