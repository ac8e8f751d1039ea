"""Threads and gates: results, errors, dropped tasks, `settle`, and exceptions in the caller."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from slipform.pipelines.workers import Gate, Workers


@contextmanager
def _workers(num_threads: int) -> Iterator[Workers]:
    workers = Workers(num_threads, "test")
    try:
        yield workers
    finally:
        workers.close()


def test_results_and_errors_belong_to_their_tasks() -> None:
    def call(k: int) -> int:
        if k % 3 == 0:
            raise KeyError(k)
        return k * k

    with _workers(3) as workers:
        tasks = [workers.submit(lambda k=k: call(k)) for k in range(30)]  # type: ignore[misc]
        for k, task in enumerate(tasks):
            if k % 3 == 0:
                with pytest.raises(KeyError, match=str(k)):
                    task.result()
            else:
                assert task.result() == k * k


def test_results_that_are_waited_for_together() -> None:
    """The caller wakes up once, after the last call. The first error in their order is raised."""
    gate, done = Gate(), []

    def call(k: int, bad: tuple[int, ...] = ()) -> int:
        if k == 0:
            gate.wait()
        done.append(k)
        if k in bad:
            raise KeyError(k)
        return k * k

    with _workers(3) as workers:
        tasks = workers.submit_all([partial(call, k) for k in range(30)])
        while len(done) < 29:
            time.sleep(0.001)
        assert tasks._ended.empty()
        gate.open()
        assert tasks.results() == [k * k for k in range(30)]
        assert tasks._ended.empty()
        assert workers.submit_all([partial(call, 5)]).results() == [25]
        bad = workers.submit_all([partial(call, k, (7, 3, 20)) for k in range(30)])
        with pytest.raises(KeyError, match=r"^3$"):
            bad.results()
        assert len(done) == 61


def test_all_threads_pass_an_open_gate() -> None:
    gate = Gate()
    with _workers(3) as workers:
        tasks = [workers.submit(gate.wait) for _ in range(9)]
        gate.open()
        gate.open()
        for task in tasks:
            task.result()


def test_every_thread_makes_the_call_once_and_an_error_is_raised() -> None:
    names: list[str] = []
    with _workers(4) as workers:
        workers.on_every_thread(lambda: names.append(threading.current_thread().name))
        assert sorted(names) == [f"test-{i}" for i in range(4)]
        with pytest.raises(ZeroDivisionError):
            workers.on_every_thread(lambda: [][1 // 0])
        assert workers.submit(lambda: 5).result() == 5, "the threads live on"


def test_dropped_tasks_never_run_and_begun_ones_end_before_settle() -> None:
    gate, done = Gate(), []

    def call(k: int) -> None:
        gate.wait()
        time.sleep(0.02)
        done.append(k)

    with _workers(2) as workers:
        started = [workers.submit(lambda k=k: call(k)) for k in range(2)]  # type: ignore[misc]
        while not workers._tasks.empty():
            time.sleep(0.001)
        for k in range(2, 9):
            workers.submit(lambda k=k: call(k))  # type: ignore[misc]
        workers.drop()
        gate.open()
        workers.settle()
        assert sorted(done) == [0, 1]
        for task in started:
            task.result()


def test_close_ends_the_threads_and_may_be_called_twice(no_collections: None) -> None:
    before = set(threading.enumerate())
    workers = Workers(3, "test")
    assert len(set(threading.enumerate()) - before) == 3
    workers.close()
    workers.close()
    assert set(threading.enumerate()) <= before


def test_threads_may_finish_on_their_own() -> None:
    """`close(wait=False)` returns while a task waits, and all tasks are done later."""
    workers, gate = Workers(1, "test"), Gate()
    done: list[int] = []
    workers.submit(gate.wait)
    last = workers.submit(lambda: done.append(1))
    workers.close(wait=False)
    assert not done
    gate.open()
    last.result()
    assert done == [1]
    for thread in workers._threads:
        thread.join()


class _Injected(BaseException):
    """Like KeyboardInterrupt, which would end pytest."""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_signals_at_any_moment_leave_the_threads_working(no_collections: None) -> None:
    """The caller opens gates, waits for results and calls `settle`. None of these may hang
    afterwards."""

    def interrupt(*_: Any) -> None:
        raise _Injected

    before = signal.signal(signal.SIGALRM, interrupt)
    hits = 0
    try:
        with _workers(2) as workers:
            for k in range(300):
                gates: list[Gate] = []
                try:
                    while True:
                        # Repeat if Python dropped the exception, as it does in a finalizer.
                        signal.setitimer(signal.ITIMER_REAL, 1e-4 * (1 + k % 16))
                        due = time.monotonic() + 0.2
                        while time.monotonic() < due:
                            gates.append(Gate())
                            tasks = [workers.submit(gates[-1].wait) for _ in range(3)]
                            gates[-1].open()
                            for task in tasks:
                                task.result()
                            workers.submit_all([gates[-1].wait] * 3).results()
                            workers.settle()
                except _Injected:
                    hits += 1
                workers.drop()
                for gate in gates:
                    gate.open()
                workers.settle()
                assert workers.submit(lambda: 1).result() == 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert hits == 300


def test_waiting_for_a_result_can_be_ended() -> None:
    go, looks = threading.Event(), list[int]()

    def meanwhile() -> None:
        looks.append(1)
        if len(looks) == 2:
            raise KeyError("enough")

    with _workers(1) as workers:
        task = workers.submit(go.wait)
        with pytest.raises(KeyError, match="enough"):
            task.result(meanwhile)
        assert not task.is_done()
        go.set()
        assert task.result(meanwhile) is True


def test_the_error_of_a_task_can_be_raised_before_its_result() -> None:
    with _workers(1) as workers:
        right, wrong = workers.submit(lambda: 5), workers.submit(lambda: {}[1])  # type: ignore[var-annotated]
        workers.settle()
        right.raise_error()
        assert right.is_done()
        assert right.result() == 5
        with pytest.raises(KeyError):
            wrong.raise_error()
    gone = Workers(0, "test").submit(lambda: 5)
    gone.raise_error()
    assert not gone.is_done()


def test_threads_are_added() -> None:
    gates = [Gate() for _ in range(5)]
    with _workers(0) as workers:
        for gate in gates:
            workers.submit(gate.open)
        workers.grow(3)
        workers.grow(2)
        workers.settle()
        assert all(gate.is_open() for gate in gates)
        assert len(workers._threads) == 3
