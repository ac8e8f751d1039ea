"""A process that has imported all modules and forks a child for each task of a drill.

In: tasks, by name, with arguments, from the test that started it. Out: for each task the exit code,
the output, and the file call that failed in it. Forks are fast, so a drill can try thousands of
moments. Tests use `Warm`. The process runs this file as a program.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import mmap
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MODES = ("ENOSPC", "EIO", "EINTR", "short write", "EACCES", "EDQUOT", "kill", "kill in the middle")
_NUMBERS = {
    "count": 0, "kill": 1, "ENOSPC": 2, "EIO": 3, "EINTR": 4, "short write": 5, "EACCES": 6,
    "EDQUOT": 7, "kill in the middle": 8,
}  # fmt: skip


class _Control(ctypes.Structure):
    """The modes of fail_call.c."""

    _fields_ = (
        ("process", ctypes.c_int),
        ("target", ctypes.c_int),
        ("mode", ctypes.c_int),
        ("count", ctypes.c_int),
        ("fired", ctypes.c_int),
        ("call", ctypes.c_char * 44),
        ("path", ctypes.c_char * 512),
        ("folder", ctypes.c_char * 512),
    )


@dataclass(frozen=True)
class Ended:
    """The end of a task. code: its exit code, negative if a signal ended it."""

    code: int
    output: str
    num_calls: int = 0
    fired: bool = False
    call: str = ""
    path: str = ""

    def __str__(self) -> str:
        return f"exit {self.code} after {self.call} {self.path}:\n{self.output[-2000:]}"


class Warm:
    """The warm process. Use it in a `with` statement, which ends the process.

    Args:
        folder: Where it keeps its files.
        library: fail_call.c, built; None: no call can fail.
        environment: Variables to add.
    """

    def __init__(self, folder: Path, library: Path | None = None, **environment: str) -> None:
        self._folder = folder
        control = folder / "control"
        control.write_bytes(bytes(ctypes.sizeof(_Control)))
        with open(control, "r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 0)
        self._control = _Control.from_buffer(self._memory)
        loaded = {"LD_PRELOAD": str(library)} if library else {}
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__, str(folder)],
            env={
                **os.environ,
                "DRILL_CONTROL": str(control),
                "PYTHONPATH": str(Path(__file__).parents[2]),
                "COLUMNS": "1000",
                "CUDA_VISIBLE_DEVICES": "",
                **loaded,
                **environment,
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self._number = 0

    def __enter__(self) -> Warm:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()
        assert self._process.stdout
        self._process.stdout.close()

    def start(self, task: str, *arguments: str, **drill: Any) -> tuple[int, Path]:
        """Fork a child that does `task`. Returns its process id and the file of its output."""
        self._number += 1
        output = self._folder / f"output-{self._number}"
        pid = self._ask(task=task, arguments=arguments, output=str(output), drill=drill)
        return int(pid), output

    def wait(self, started: tuple[int, Path]) -> Ended:
        """Wait for the end of a child."""
        code = int(self._ask(wait=started[0]))
        text = started[1].read_text(errors="replace")
        started[1].unlink()
        return Ended(code, text)

    def run(self, task: str, *arguments: str) -> Ended:
        """Do a task without a fault."""
        return self.wait(self.start(task, *arguments))

    def drill(self, folder: Path, target: int, mode: str, task: str, *arguments: str) -> Ended:
        """Do a task whose `target`-th file call below `folder` fails. The mode "count" only counts
        them."""
        control = self._control
        control.process, control.count, control.fired = 0, 0, 0
        control.call = control.path = b""
        control.target, control.mode = target, _NUMBERS[mode]
        control.folder = os.fsencode(folder)
        ended = self.wait(self.start(task, *arguments, armed=True))
        return Ended(
            ended.code,
            ended.output,
            control.count,
            bool(control.fired),
            control.call.decode(),
            os.fsdecode(control.path),
        )

    def _ask(self, **question: Any) -> Any:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


def _serve(folder: Path) -> None:
    import torch

    from tests.drills import tasks  # this imports all modules that a task needs

    torch.set_num_threads(1)
    with contextlib.redirect_stdout(sys.stderr):
        tasks.warm_up(folder / "warm-up")
    with open(os.environ["DRILL_CONTROL"], "r+b") as file:
        control = _Control.from_buffer(mmap.mmap(file.fileno(), 0))
    os.chdir(folder)
    for line in sys.stdin:
        question = json.loads(line)
        if "wait" in question:
            status = os.waitpid(question["wait"], 0)[1]
            answer = os.waitstatus_to_exitcode(status)
        else:
            answer = os.fork()
            if answer == 0:
                _child(tasks, question, control)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _child(tasks: Any, question: dict[str, Any], control: _Control) -> None:
    """Do a task, and end like a separate process."""
    handle = os.open(question["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    empty = os.open(os.devnull, os.O_RDONLY)
    for number, source in enumerate((empty, handle, handle)):
        os.dup2(source, number)
    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    code = 1
    try:
        if question["drill"].get("armed"):
            control.process = os.getpid()
        try:
            getattr(tasks, question["task"])(*question["arguments"])
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            import traceback

            traceback.print_exc()
    finally:
        control.process = 0 if question["drill"].get("armed") else control.process
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def now() -> float:
    """Seconds, for the length of a drill. No assertion depends on them."""
    return time.monotonic()


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
    os._exit(0)  # freeing the imported modules would take seconds
