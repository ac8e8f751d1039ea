"""Calls in a process of their own: its memory, threads and caches end with it.

In: importable functions and arguments that can be pickled. Out: their values, or `CallFailed`,
which says why there is none.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from typing import Any

from slipform.bench.result.result import Status
from slipform.pipelines.errors import SlipformError

CALL_SECONDS = 3600.0
_CLOSE_SECONDS = 10.0


class NotPossible(Exception):
    """The work that was asked for cannot be done this way; no fault of anybody."""


class CallFailed(SlipformError):
    """A call in another process gave no value.

    Args:
        note: The reason, in one line.
        status: The same as a row's status. "out of memory" also where the kernel killed the
            process; "not installed" after an ImportError; "not possible" after `NotPossible`.
    """

    def __init__(self, note: str, status: Status = "failed") -> None:
        super().__init__(note)
        self.note = note
        self.status: Status = status


@contextmanager
def _safe_path() -> Iterator[None]:
    """Processes started now do not import from the working folder, as with `python -P`.

    multiprocessing starts them by `python -c`, which looks there first: a user's queue.py would be
    run.
    """
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONSAFEPATH"]
        else:
            os.environ["PYTHONSAFEPATH"] = before


class Worker:
    """A process that does one call after the other and is idle in between. Use in `with`.

    The process is spawned, not forked, so that no thread and no lock of this process is in it.
    """

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,))
        with _safe_path():
            self._process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        """The number of its process."""
        assert self._process.pid is not None
        return self._process.pid

    def call(
        self, function: Callable[..., Any], *arguments: Any, seconds: float = CALL_SECONDS
    ) -> Any:
        """Call a function in the process.

        Args:
            function: Importable by its module and name. It gets the kept object first, if there is
                one (see `keep`): an unbound method of that object's class fits.
            arguments: What else it gets.
            seconds: The time limit. The process is ended when it is over.

        Returns:
            What the function returned.

        Raises:
            CallFailed: It raised, its process ended, or it took too long.
        """
        return self._request(function, arguments, False, seconds)

    def keep(
        self, make: Callable[..., Any], *arguments: Any, seconds: float = CALL_SECONDS
    ) -> None:
        """Make an object that stays in the process and is the first argument of every later call.

        Args:
            make: As `function` of `call`. A context manager that it returns is entered, and left
                before the process ends.
            arguments: What it gets.
            seconds: The time limit, as for `call`.

        Raises:
            CallFailed: As for `call`.
        """
        self._request(make, arguments, True, seconds)

    def _request(
        self, function: Callable[..., Any], arguments: tuple[Any, ...], keep: bool, seconds: float
    ) -> Any:
        try:
            self._connection.send((function, arguments, keep))
            if not self._connection.poll(seconds):
                self._end(seconds=0.0)
                raise CallFailed(f"no answer within {seconds:g} seconds")
            done, value = self._connection.recv()
        except (EOFError, OSError):
            self._process.join(timeout=_CLOSE_SECONDS)
            status = self._process.exitcode
            # The kernel kills with this signal when memory runs out.
            killed = status == -signal.SIGKILL
            raise CallFailed(
                f"its process ended with status {status}", "out of memory" if killed else "failed"
            ) from None
        if not done:
            raise CallFailed(*value)
        return value

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._end(_CLOSE_SECONDS)

    def _end(self, seconds: float) -> None:
        """Wait for the process to end by itself, then end it and its children."""
        import psutil

        self._process.join(timeout=seconds)
        if self._process.is_alive():
            parent = psutil.Process(self._process.pid)
            for one in [*parent.children(recursive=True), parent]:
                one.kill()
            self._process.join()


def isolated(function: Callable[..., Any], *arguments: Any, seconds: float = CALL_SECONDS) -> Any:
    """Do one call in a fresh process.

    Args:
        function: Importable by its module and name.
        arguments: What it gets.
        seconds: The time limit.

    Returns:
        What the function returned.

    Raises:
        CallFailed: It raised, its process ended, or it took too long.
    """
    with Worker() as worker:
        return worker.call(function, *arguments, seconds=seconds)


def _serve(connection: Connection) -> None:
    """The loop of the process."""
    # A spawned process would spawn its own workers, too. With Linux's default (fork), ffcv's writer
    # does not import ffcv again in every worker (14 s), nor DataLoader torch.
    multiprocessing.set_start_method("fork", force=True)
    kept: list[Any] = []
    with ExitStack() as stack:
        while True:
            try:
                function, arguments, keep = connection.recv()
                reply = True, function(*kept, *arguments)
                if keep:
                    made = reply[1]
                    entered = stack.enter_context(made) if hasattr(made, "__enter__") else made
                    kept, reply = [entered], (True, None)
                connection.send(reply)
            except (EOFError, KeyboardInterrupt):
                return
            except Exception as error:
                connection.send((False, _reason(error)))


def _reason(error: Exception) -> tuple[str, Status]:
    """Note and status of a failed call."""
    words = next(iter(str(error).strip().splitlines()), "")
    if isinstance(error, ImportError):
        return words, "not installed"
    if isinstance(error, NotPossible):
        return words, "not possible"
    if isinstance(error, SlipformError):
        return words, "failed"
    # torch's allocator on a CPU raises a RuntimeError.
    if type(error).__name__ in ("OutOfMemoryError", "MemoryError") or "allocate memory" in words:
        return words, "out of memory"
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}"
    return f"{type(error).__name__}: {words} ({place})", "failed"
