"""Calls in a process of their own, so that they cannot disturb the next: memory, threads and caches
end with it.

In: functions of modules and their arguments. Out: their values, or how the process died.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any


@dataclass(frozen=True)
class Died:
    """The call gave no value. out_of_memory: the process was killed as the kernel does it when
    memory runs out."""

    note: str
    out_of_memory: bool = False


class Workplace:
    """A process that does one call after the other and rests in between. Use in `with`."""

    def __init__(self) -> None:
        context = multiprocessing.get_context(
            "spawn"
        )  # not fork: no thread or lock of this process comes along
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs,))
        self._process.start()
        theirs.close()

    def call(self, function: Callable[..., Any], *arguments: Any, seconds: float = 3600.0) -> Any:
        """function(*arguments) over there; `Died` where it raised, was killed or took longer than
        `seconds`."""
        try:
            self._connection.send((function, arguments))
            if not self._connection.poll(seconds):
                return Died(f"gave no result within {seconds:.0f} seconds")
            return self._connection.recv()
        except (EOFError, OSError):
            self._process.join(timeout=10)
            status = self._process.exitcode
            return Died(
                f"its process ended with status {status}", out_of_memory=status == -signal.SIGKILL
            )

    def __enter__(self) -> Workplace:
        return self

    def __exit__(self, *_: object) -> None:
        """End it and its workers, after a moment to close what it opened."""
        self._connection.close()
        end(self._process, seconds=10)


def isolated(function: Callable[..., Any], *arguments: Any, seconds: float = 3600.0) -> Any:
    """One call in a fresh process."""
    with Workplace() as workplace:
        return workplace.call(function, *arguments, seconds=seconds)


def end(process: Any, seconds: float) -> None:
    """Wait for a process to end by itself, then end it and all its children."""
    import psutil

    process.join(timeout=seconds)
    if process.is_alive():
        parent = psutil.Process(process.pid)
        for one in [*parent.children(recursive=True), parent]:
            one.kill()
        process.join()


def fork_again() -> None:
    """Let this process start its own workers as Linux does by default (Python 3.11 to 3.13). A
    spawned process has inherited "spawn", with which ffcv's writer imports ffcv once more in every
    worker (14 s), and DataLoader torch.
    """
    multiprocessing.set_start_method("fork", force=True)


def _work(connection: Connection) -> None:
    fork_again()
    while True:
        try:
            function, arguments = connection.recv()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            connection.send(function(*arguments))
        except Exception as error:
            words = str(error).strip().splitlines() or [""]
            connection.send(Died(f"{type(error).__name__}: {words[0]}"))
