"""Processes of tests: started by torchrun, and waited for.

In: arguments; a process and a condition. Out: the process, or a failed test. There is no time limit
here, so that no test fails on a busy machine. pytest's timeout ends a test that hangs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence

import pytest


def wait_for(process: subprocess.Popen[str], ready: Callable[[], bool]) -> None:
    """Wait until ready(). The test fails if the process ends before."""
    while not ready():
        if process.poll() is not None:
            output, errors = process.communicate()
            pytest.fail(f"it ended with {process.returncode} before: {output} {errors}")
        time.sleep(0.02)


def torchrun(
    num: int,
    *arguments: object,
    options: Sequence[str] = ("--standalone",),
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[str]:
    """Start several processes of a program on this machine, with one thread each.

    Args:
        num: The number of processes.
        arguments: "-m" and a module, or a file; then the program's own arguments.
        options: Further options of torchrun.
        environment: Further variables of the environment.
    """
    launcher = [sys.executable, "-m", "torch.distributed.run", *options, "--nproc-per-node"]
    return subprocess.Popen(
        [*launcher, str(num), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
    )


def finish(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Wait for the end of a process. The test fails if the process does.

    Returns:
        Its output and its messages.
    """
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    return output, errors
