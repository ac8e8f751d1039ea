"""A process that has imported large modules and forks a child for each program of a test.

In: programs as text, with arguments. Out: their exit codes and output, as from subprocess.run. A
child ends like a separate process, with everything that Python does at exit. Only the imports are
shared, which take most of the time of a new process.

The process runs this file as a program. Its arguments are the modules to import, and it reads one
JSON object per line.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Started:
    """A child.

    Attributes:
        pid: Its process id.
        stdout: The file of its output.
        stderr: The file of its errors.
    """

    pid: int
    stdout: Path
    stderr: Path


class Warm:
    """The warm process. Use it in a `with` statement, which ends the process.

    Args:
        modules: The modules that it imports.
        environment: Variables to add.
    """

    def __init__(self, *modules: str, **environment: str) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__, *modules],
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._number = 0

    def __enter__(self) -> Warm:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()
        self._folder.cleanup()

    def start(
        self,
        program: str,
        *arguments: object,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> Started:
        """Fork a child that runs a program.

        Args:
            program: Python.
            arguments: sys.argv[1:].
            environment: All of its variables. None: the present ones of this process.
            folder: Its working folder. None: the present one of this process.
        """
        self._number += 1
        out, errors = (Path(self._folder.name) / f"{kind}-{self._number}" for kind in "oe")
        pid = self._ask(
            program=program,
            arguments=[str(argument) for argument in arguments],
            environment=dict(os.environ if environment is None else environment),
            folder=str(folder or Path.cwd()),
            files=[str(out), str(errors)],
        )
        return Started(pid, out, errors)

    def wait(self, started: Started) -> subprocess.CompletedProcess[str]:
        """Wait for the end of a child."""
        code = self._ask(wait=started.pid)
        return subprocess.CompletedProcess(
            [], code, started.stdout.read_text(), started.stderr.read_text()
        )

    def run(self, program: str, *arguments: object, **how: Any) -> subprocess.CompletedProcess[str]:
        """Run a program; see `start`."""
        return self.wait(self.start(program, *arguments, **how))

    def run_file(
        self, path: Path, *arguments: object, **how: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a file as a program; see `start`."""
        program = f"import runpy; runpy.run_path({str(path)!r}, run_name='__main__')"
        return self.run(program, *arguments, **how)

    def _ask(self, **question: Any) -> int:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


def _serve(modules: Sequence[str]) -> dict[str, Any] | None:
    """Handle requests. Returns None at their end, and the task in a child."""
    for name in modules:
        importlib.import_module(name)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    for line in iter(sys.stdin.readline, ""):
        question = json.loads(line)
        if "wait" in question:
            answer = os.waitstatus_to_exitcode(os.waitpid(question["wait"], 0)[1])
        else:
            answer = os.fork()
            if answer == 0:
                return dict(question)
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()
    return None


def _become(task: dict[str, Any]) -> None:
    """Set the files, variables, folder and arguments of the child."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    handles = [os.open(os.devnull, os.O_RDONLY)]
    handles += [os.open(path, flags, 0o600) for path in task["files"]]
    for number, handle in enumerate(handles):
        os.dup2(handle, number)
        os.close(handle)
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(task["environment"])
    os.chdir(task["folder"])
    sys.argv = ["-c", *task["arguments"]]
    sys.path[:0] = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]


if __name__ == "__main__":
    found = _serve(sys.argv[1:])
    if found is None:
        os._exit(0)  # freeing the imported modules would take seconds
    else:
        _become(found)
        # In the frame of the module: an exception and sys.exit end the process as usual.
        exec(compile(found["program"], "<program>", "exec"), {"__name__": "__main__"})
