"""A test that hangs is ended with the stacks of its threads, and the other tests run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.modules import ROOT

# An exception at the time limit would lead to `wait`, which waits for the child again.
HANGS = """
import subprocess, sys
import pytest

def test_first(): pass
@pytest.mark.timeout(4)  # any speed: it hangs, and shall end
def test_hangs():
    child = [sys.executable, "-c", "import time; time.sleep(60)"]
    with subprocess.Popen(child, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        pass
def test_last(): pass
"""


def _pytest(*arguments: object, ignored: tuple[signal.Signals, ...] = ()) -> tuple[int, str]:
    """The exit code and the output of pytest with the settings of this project."""
    ignore = "".join(f"signal.signal({int(number)}, signal.SIG_IGN);" for number in ignored)
    code = f"import signal, sys; {ignore} import pytest; sys.exit(pytest.main())"
    command = [sys.executable, "-c", code, "-p", "no:cacheprovider", "-c", ROOT / "pyproject.toml"]
    # Without the variables that say that this test runs in a process of xdist.
    env = {name: value for name, value in os.environ.items() if "XDIST" not in name}
    done = subprocess.run(
        [*map(str, command), *map(str, arguments)],
        cwd=ROOT, env=env, stdin=subprocess.PIPE, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_a_hang_ends_and_the_other_tests_run(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(HANGS)
    stacks = ("-o", "faulthandler_timeout=2")
    code, printed = _pytest("-n", "1", *stacks, "--rootdir", tmp_path, tmp_path)
    assert code == 1, printed
    assert "crashed while running" in printed
    assert "test_it.py::test_hangs" in printed
    assert "2 passed" in printed
    assert "in test_hangs" in printed  # the stack


@pytest.mark.slow
def test_ignored_signals_have_no_effect() -> None:
    """nohup, some CI runners, and shells for background commands ignore signals."""
    ignored = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    code, printed = _pytest("tests/train/machine/test_interrupt.py", ignored=ignored)
    assert code == 0, printed


# `nohup make test` goes on when its terminal is closed: all its processes get SIGHUP.
HANGS_UP = """
import os, signal, subprocess, sys
import pytest

@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_goes_on(number):
    os.kill(os.getpid(), number)
    if os.environ.get("PYTEST_XDIST_WORKER"):
        os.kill(os.getppid(), number)
    child = [sys.executable, "-c", f"import os, time; os.kill(os.getpid(), {int(number)}); 1 / 0"]
    done = subprocess.run(child, capture_output=True, text=True)
    assert "ZeroDivisionError" not in done.stderr
"""


@pytest.mark.parametrize("processes", ["0", pytest.param("1", marks=pytest.mark.slow)])
def test_ignored_signals_reach_only_the_children_of_tests(processes: str, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(HANGS_UP)
    plugin = ("-p", "tests.conftest", "-n", processes)
    ignored = (signal.SIGHUP, signal.SIGINT)
    code, printed = _pytest(*plugin, "--rootdir", tmp_path, tmp_path, ignored=ignored)
    assert code == 0, printed
    assert "2 passed" in printed
