"""Processes of tests: started by torchrun or as it starts them, and waited for.

In: arguments; a process and a condition. Out: the process, or a failed test. There is no time limit
here, so that no test fails on a busy machine. pytest's timeout ends a test that hangs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence

import psutil
import pytest

from tests.warm import Warm


def wait_for(process: subprocess.Popen[str], ready: Callable[[], bool]) -> None:
    """Wait until ready(). The test fails if the process ends before."""
    while not ready():
        if process.poll() is not None:
            output, errors = process.communicate()
            pytest.fail(f"it ended with {process.returncode} before: {output} {errors}")
        time.sleep(0.02)


def runs(process: psutil.Process) -> bool:
    """Whether a process that is perhaps no child of this one runs. Nobody may reap it."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


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


def forked(
    warm: Warm,
    num: int,
    module: str,
    *arguments: object,
    codes: Sequence[int] = (),
    variables: Mapping[str, str] | None = None,
) -> Callable[[], list[subprocess.CompletedProcess[str]]]:
    """Start several processes of a program as torchrun does, with its store and its variables.

    They are forks of a process that has imported what they need, which takes most of their time.

    Args:
        warm: That process.
        num: The number of processes.
        module: The program.
        arguments: Its arguments.
        codes: The exit code that each process shall have. Default: 0.
        variables: Further variables of the environment.

    Returns:
        A function that waits for the end of the processes, and returns them. The test fails if one
        of them has another exit code.
    """
    # Processes of other tests import this module, too, and need no torch.
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    environment = {
        **os.environ,
        **(variables or {}),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_RUN_ID": "forked",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "WORLD_SIZE": str(num),
        "LOCAL_WORLD_SIZE": str(num),
    }
    program = f"import runpy; runpy.run_module({module!r}, run_name='__main__')"
    started = [
        warm.start(
            program,
            *arguments,
            environment={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(num)
    ]

    def finished() -> list[subprocess.CompletedProcess[str]]:
        ended = [warm.wait(one) for one in started]
        assert store.port, "it serves until all of them have ended"
        found = [one.returncode for one in ended]
        assert found == list(codes or [0] * num), [one.stderr for one in ended]
        return ended

    return finished
