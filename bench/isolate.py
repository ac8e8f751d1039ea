"""One call in a process of its own, so that it cannot disturb the next: memory, threads and caches end with it.

In: a function of a module and its arguments. Out: its value, or how the process died.
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
    """The call gave no value. out_of_memory: the process was killed as the kernel does it when memory runs out."""

    note: str
    out_of_memory: bool = False


def isolated(function: Callable[..., Any], *arguments: Any, seconds: float = 3600.0) -> Any:
    """function(*arguments) in a fresh process; `Died` where it raised, was killed or took longer than `seconds`."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_call, args=(theirs, function, arguments))
    process.start()
    theirs.close()
    try:
        if not ours.poll(seconds):
            return Died(f"gave no result within {seconds:.0f} seconds")
        return ours.recv()
    except EOFError:
        process.join()
        killed = process.exitcode == -signal.SIGKILL
        return Died(f"its process ended with status {process.exitcode}", out_of_memory=killed)
    finally:
        _end(process)
        ours.close()


def _end(process: Any) -> None:
    """Give it a moment to close what it opened, then end it and its workers."""
    import psutil

    process.join(timeout=10)
    if process.is_alive():
        parent = psutil.Process(process.pid)
        for one in [*parent.children(recursive=True), parent]:
            one.kill()
        process.join()


def _call(connection: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        connection.send(function(*arguments))
    except Exception as error:
        connection.send(Died(f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"))
