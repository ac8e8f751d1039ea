"""Threads for tasks, and gates for them to wait at, that survive an exception in their caller.

In: calls without arguments. Out: their results, or their exceptions.

Ctrl-C raises between any two bytecodes of the main thread. `threading.Event` and
`concurrent.futures` are Python code that holds a lock meanwhile: an exception there leaves the lock
held, and every thread waits for it for ever. The methods of `queue.SimpleQueue` are C code, which
an exception does not divide, so all waiting here is that of such queues.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

__all__ = ["Gate", "Task", "Workers"]

T = TypeVar("T")


class Gate:
    """Closed at first; once open, it stays open."""

    def __init__(self) -> None:
        self._token: SimpleQueue[None] = SimpleQueue()

    def open(self) -> None:
        """Let everybody pass. A second call does nothing."""
        self._token.put(None)

    def wait(self) -> None:
        """Wait until it is open. Only for threads of `Workers`: the token comes back in a second
        step."""
        self._token.put(self._token.get())


class Task(Generic[T]):
    """A call under way."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._outcome: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()

    def run(self) -> None:
        """Make the call, on the present thread."""
        try:
            self._outcome.put((self._call(), None))
        except BaseException as error:
            self._outcome.put((None, error))

    def result(self) -> T:
        """Wait for the call, and return or raise what it did. May be asked once."""
        value, error = self._outcome.get()
        try:
            if error is not None:
                raise error
            return value  # type: ignore[return-value]  # None where T is None
        finally:
            del error  # its traceback leads to this frame


class Workers:
    """Threads that run tasks in the order they were given.

    Args:
        num_threads: How many.
        name: Of the threads.
    """

    def __init__(self, num_threads: int, name: str) -> None:
        self._tasks: SimpleQueue[Task[object] | None] = SimpleQueue()
        self._go = Gate()
        # Daemons: a thread whose `start` an exception cut short may never end.
        self._threads = [
            threading.Thread(target=_work, args=(self._tasks,), name=f"{name}-{i}", daemon=True)
            for i in range(num_threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, call: Callable[[], T]) -> Task[T]:
        """Have a call made by one of the threads."""
        task = Task(call)
        self._tasks.put(task)  # type: ignore[arg-type]  # Task[T] is a Task[object] to `run`
        return task

    def drop(self) -> None:
        """Forget the tasks that no thread has begun: their `result` never comes."""
        try:
            while True:
                self._tasks.get_nowait()
        except Empty:
            return

    def on_every_thread(self, call: Callable[[], None]) -> None:
        """Make a call once on every thread, after all tasks so far; wait for the last of them."""
        self._go.open()  # an exception may have cut an earlier call of this method short
        self._go = go = Gate()
        arrived: SimpleQueue[BaseException | None] = SimpleQueue()

        def once() -> None:
            try:
                call()
                arrived.put(None)
            except BaseException as error:
                arrived.put(error)
            go.wait()  # so that no thread takes two of these

        for _ in self._threads:
            self.submit(once)
        errors = [arrived.get() for _ in self._threads]
        go.open()
        for error in errors:
            if error is not None:
                raise error

    def settle(self) -> None:
        """Wait until no thread is in a task."""
        self.on_every_thread(_nothing)

    def close(self) -> None:
        """Drop what has not begun and end the threads. A second call does nothing."""
        self._go.open()
        self.drop()
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()


def _work(tasks: SimpleQueue[Task[object] | None]) -> None:
    """One thread. It holds no reference to its `Workers`."""
    while (task := tasks.get()) is not None:
        task.run()
        del task  # what it holds is freed before the next wait


def _nothing() -> None:
    """To be called on every thread where only the waiting counts."""
