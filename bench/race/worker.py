"""Calls in a separate process: its memory, threads and caches end with it.

In: importable functions and arguments that can be pickled. Out: their values, or `CallFailed` with
the reason.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from typing import Any

from slipform.bench.result.result import Status
from slipform.pipelines.errors import SlipformError

__all__ = ["CallFailed", "NotPossible", "Worker", "isolated"]

_CALL_SECONDS = 3600.0
_CLOSE_SECONDS = 10.0


class NotPossible(Exception):
    """A contestant cannot do the work. This is not an error of the contestant."""


class CallFailed(SlipformError):
    """A call in another process returned no value.

    Args:
        note: The reason, in one line.
        status: The reason as the status of a row. "out of memory": also if the kernel killed the
            process. "not installed": an ImportError. "not possible": `NotPossible`.

    Attributes:
        note: The argument.
        status: The argument.
    """

    def __init__(self, note: str, status: Status = "failed") -> None:
        super().__init__(note)
        self.note = note
        self.status: Status = status


@contextmanager
def _safe_path() -> Iterator[None]:
    """Inside, new processes do not import from the working folder, like `python -P`.

    multiprocessing starts them by `python -c`, which searches that folder first: it would import a
    user's queue.py.
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
    """A process that does one call after another. Use it in a `with` statement.

    The process is spawned, not forked, so it has no threads and no locks of this process.
    """

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,))
        self._too_late = False  # whether this object has killed it
        with theirs, ExitStack() as undo:
            undo.callback(self._connection.close)
            with _safe_path():
                self._process.start()
            undo.pop_all()

    @property
    def pid(self) -> int:
        """The id of the process."""
        assert self._process.pid is not None
        return self._process.pid

    def call(
        self, function: Callable[..., Any], *arguments: Any, seconds: float = _CALL_SECONDS
    ) -> Any:
        """Call a function in the process, and return its value.

        Args:
            function: A function that can be imported by its module and name. Its first argument is
                the object of `keep`, if there is one: an unbound method of its class is possible.
            arguments: The other arguments.
            seconds: The time limit; the process is ended after it.

        Raises:
            CallFailed: The function raised an exception, the process ended, or the time is over.
        """
        return self._request(function, arguments, False, seconds)

    def keep(
        self, make: Callable[..., Any], *arguments: Any, seconds: float = _CALL_SECONDS
    ) -> None:
        """Make an object that stays in the process and is the first argument of every later call.

        Args:
            make: A function that can be imported; see `call`. If it returns a context manager, the
                process enters it, and leaves it before it ends.
            arguments: The arguments of `make`.
            seconds: The time limit; the process is ended after it.

        Raises:
            CallFailed: See `call`.
        """
        self._request(make, arguments, True, seconds)

    def _request(
        self, function: Callable[..., Any], arguments: tuple[Any, ...], keep: bool, seconds: float
    ) -> Any:
        try:
            self._connection.send((function, arguments, keep))
            if not self._connection.poll(seconds):
                self._too_late = True
                self._end(seconds=0.0)
                raise CallFailed(f"no answer within {seconds:g} seconds")
            done, value = self._connection.recv()
        except (EOFError, OSError):
            self._process.join(timeout=_CLOSE_SECONDS)
            status = self._process.exitcode
            # The kernel sends this signal if the memory is full.
            if status == -signal.SIGKILL and not self._too_late:
                raise CallFailed(
                    "its process was killed, as it is if memory is short", "out of memory"
                ) from None
            raise CallFailed(f"its process ended with status {status}") from None
        if not done:
            raise CallFailed(*value)
        return value

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process. Another call does nothing."""
        self._connection.close()
        self._end(_CLOSE_SECONDS)

    def _end(self, seconds: float) -> None:
        """Wait for the end of the process; after `seconds`, kill it and its children."""
        import psutil

        self._process.join(timeout=seconds)
        if self._process.is_alive():
            parent = psutil.Process(self._process.pid)
            for one in [*parent.children(recursive=True), parent]:
                one.kill()
            self._process.join()


def isolated(function: Callable[..., Any], *arguments: Any, seconds: float = _CALL_SECONDS) -> Any:
    """Call a function in a new process, and return its value.

    Args:
        function: A function that can be imported by its module and name.
        arguments: Its arguments.
        seconds: The time limit; the process is ended after it.

    Raises:
        CallFailed: The function raised an exception, the process ended, or the time is over.
    """
    with Worker() as worker:
        return worker.call(function, *arguments, seconds=seconds)


def _serve(connection: Connection) -> None:
    """The loop of the process."""
    # A spawned process would spawn its workers, too. With fork, the workers of ffcv's writer need
    # not import ffcv again (14 s), and the workers of a DataLoader need not import torch.
    multiprocessing.set_start_method("fork", force=True)
    threading.Thread(target=_end_with_parent, daemon=True).start()
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


def _end_with_parent() -> None:
    """End this process with the one that started it, also in the middle of a call."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _reason(error: Exception) -> tuple[str, Status]:
    """The note and the status of a failed call."""
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
