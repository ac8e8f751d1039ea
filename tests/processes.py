"""Waiting for a process that a test has started.

In: the process, and what one waits for. Out: nothing, or a failed test. Nothing here has a time
limit of its own, so that a busy machine fails no test: pytest's timeout ends what hangs.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

import pytest


def wait_for(process: subprocess.Popen[str], ready: Callable[[], bool]) -> None:
    """Wait until ready() for as long as the process runs; fail where it ends before."""
    while not ready():
        if process.poll() is not None:
            output, errors = process.communicate()
            pytest.fail(f"it ended with {process.returncode} before: {output} {errors}")
        time.sleep(0.02)
