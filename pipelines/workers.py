"""Threads for tasks, and gates where they wait. An exception in their caller does not block them.

In: calls without arguments. Out: their results or their exceptions.

Ctrl-C raises an exception between any two bytecodes of the main thread. It would leave a lock of
`threading.Event` or `concurrent.futures` held forever, which are Python code. It cannot interrupt
the methods of `queue.SimpleQueue`, which are C code. All waiting in this module uses such queues.

An exception refers to the frames that it left, whose objects may refer to the task that keeps it:
only a garbage collection would free them. So tasks clear these frames.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Generic, TypeVar

from slipform.pipelines.errors import forget_frames

__all__ = ["LOOK", "Gate", "Task", "Tasks", "Workers"]

LOOK = 0.2  # seconds between two looks at whether waiting should end
T = TypeVar("T")


class Gate:
    """Threads wait at it until it is open. It is closed at first, and stays open once opened."""

    def __init__(self) -> None:
        self._token: SimpleQueue[None] = SimpleQueue()

    def open(self) -> None:
        """Open the gate for all threads. A second call does nothing."""
        self._token.put(None)

    def is_open(self) -> bool:
        """Whether the gate is open."""
        return not self._token.empty()

    def wait(self) -> None:
        """Wait until the gate is open.

        Only threads of `Workers` may call it. Ctrl-C between its two steps would close the gate
        again, and cannot occur in those threads.
        """
        self._token.put(self._token.get())


class Task(Generic[T]):
    """A call that a thread makes.

    Args:
        call: The call.
    """

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._outcome: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()

    def run(self) -> None:
        """Make the call in the present thread, and free what it holds there."""
        call = self._call
        del self._call
        try:
            self._outcome.put((call(), None))
        except BaseException as error:
            self.fail(error)
        finally:
            del self, call

    def fail(self, error: BaseException) -> None:
        """Let `result` raise an error. The call is then not made.

        Args:
            error: The error.
        """
        forget_frames(error)
        self._outcome.put((None, error))

    def is_done(self) -> bool:
        """Whether the call has ended, and `result` was not called."""
        return not self._outcome.empty()

    def raise_error(self) -> None:
        """Raise what the call raised. A result stays, unless an exception interrupts this method.

        Raises:
            BaseException: What the call raised. `result` would now wait forever.
        """
        if self.is_done():
            self._outcome.put((self.result(), None))

    def result(self, meanwhile: Callable[[], object] | None = None) -> T:
        """Wait for the call. It may be called once.

        Args:
            meanwhile: Called every `LOOK` seconds of waiting. What it raises ends the waiting.

        Returns:
            What the call returned.

        Raises:
            BaseException: What the call raised, or `meanwhile`.
        """
        outcome = None if meanwhile else self._outcome.get()
        while outcome is None:
            try:  # not `suppress`, whose two calls take 15 us in caches with other data
                outcome = self._outcome.get(timeout=LOOK)
            except Empty:
                assert meanwhile is not None
                meanwhile()
        value, error = outcome
        del outcome
        try:
            if error is not None:
                raise error
            return value  # type: ignore[return-value]  # None where T is None
        finally:
            del error  # its traceback refers to this frame: a cycle


class Tasks(Generic[T]):
    """Calls that threads make, and whose results are waited for together.

    The waiting thread wakes up once, after the last call. It would wake up for each of several
    `Task`s, and each time it competes with the threads that work.

    Args:
        calls: The calls, at least one.
    """

    def __init__(self, calls: Sequence[Callable[[], T]]) -> None:
        self._calls: list[Callable[[], T] | None] = list(calls)
        self._values: list[T | None] = [None] * len(calls)
        self._errors: dict[int, BaseException] = {}
        # `next` of a counter is C code: no two threads get the same number.
        self._others = count(len(calls) - 1, -1)
        self._ended: SimpleQueue[None] = SimpleQueue()

    def run(self, number: int) -> None:
        """Make one of the calls in the present thread, and free what it holds there.

        Args:
            number: Its position in `calls`.
        """
        call, self._calls[number] = self._calls[number], None
        assert call is not None, "a call is made once"
        try:
            self._values[number] = call()
        except BaseException as error:
            forget_frames(error)
            self._errors[number] = error
        if next(self._others) == 0:
            self._ended.put(None)
        del self, call

    def results(self) -> list[T]:
        """Wait for all calls. It may be called once.

        Returns:
            What the calls returned, in their order.

        Raises:
            BaseException: What the first of them raised that raised something.
        """
        self._ended.get()
        if self._errors:
            errors, self._errors = self._errors, {}
            try:
                raise errors[min(errors)]
            finally:
                del errors  # see `Task.result`
        return self._values  # type: ignore[return-value]  # None where T is None


class Workers:
    """Threads that begin tasks in the order in which they were submitted.

    Args:
        num_threads: Number of threads.
        name: Name of the threads. A number is appended.
    """

    def __init__(self, num_threads: int, name: str) -> None:
        self._tasks: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._go, self._name = Gate(), name
        self._threads: list[Thread] = []
        # Without `close`, as after an error in a constructor: the threads would wait forever.
        weakref.finalize(self, _end, self._tasks, self._threads).atexit = False
        self.grow(num_threads)

    def grow(self, num_threads: int) -> None:
        """Start threads until there are so many.

        Args:
            num_threads: Number of threads.
        """
        for number in range(len(self._threads), num_threads):
            # A daemon: a thread may never end if an exception interrupted its `start`.
            name = f"{self._name}-{number}"
            thread = Thread(target=_work, args=(self._tasks,), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def submit(self, call: Callable[[], T]) -> Task[T]:
        """Give a call to the threads.

        Args:
            call: The call.

        Returns:
            The task, for its result.
        """
        task = Task(call)
        self._tasks.put(task.run)
        return task

    def submit_all(self, calls: Sequence[Callable[[], T]]) -> Tasks[T]:
        """Give several calls to the threads, whose results are waited for together.

        Args:
            calls: The calls, at least one.

        Returns:
            The tasks, for their results.
        """
        tasks = Tasks(calls)
        for number in range(len(calls)):
            self._tasks.put(partial(tasks.run, number))
        return tasks

    def drop(self) -> None:
        """Remove the tasks that no thread has begun. Their `result` would wait forever."""
        try:
            while True:
                self._tasks.get_nowait()
        except Empty:
            return

    def on_every_thread(self, call: Callable[[], None]) -> None:
        """Make a call once on each thread, after all present tasks, and wait for all of them.

        Args:
            call: The call.

        Raises:
            BaseException: What the call raised on a thread.
        """
        self._go.open()  # an exception may have interrupted an earlier call of this method
        self._go = go = Gate()
        arrived: SimpleQueue[None] = SimpleQueue()

        def once() -> None:
            try:
                call()
            finally:
                arrived.put(None)
                go.wait()  # no thread may take two of these tasks

        if self._threads:
            tasks = self.submit_all([once] * len(self._threads))
            for _ in self._threads:
                arrived.get()
            go.open()
            tasks.results()

    def settle(self) -> None:
        """Wait until no thread runs a task."""
        self.on_every_thread(lambda: None)

    def close(self, *, wait: bool = True) -> None:
        """Remove the tasks that were not begun, and end the threads. A second call does nothing.

        Args:
            wait: False: return at once. The threads do all tasks, and then end.
        """
        self._go.open()
        if wait:
            self.drop()
        _end(self._tasks, self._threads)
        for thread in self._threads if wait else ():
            thread.join()


def _work(tasks: SimpleQueue[Callable[[], None] | None]) -> None:
    """Run tasks until None comes. The thread holds no reference to its `Workers`."""
    while (run := tasks.get()) is not None:
        run()
        del run  # frees what the task holds before the next wait


def _end(tasks: SimpleQueue[Callable[[], None] | None], threads: list[Thread]) -> None:
    """End the threads after all tasks. This waits for nothing."""
    for _ in threads:
        tasks.put(None)
