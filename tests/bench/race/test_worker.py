"""Calls in other processes: values, kept objects, and every kind of failure."""

import math
import multiprocessing
import os
import signal
import time
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path

import psutil
import pytest

from slipform.bench.race import worker as module
from slipform.bench.race.worker import CallFailed, Worker, isolated
from tests.bench.race.called import Counter, opened, raise_of, read, write_and_wait
from tests.processes import runs


@pytest.fixture(autouse=True)
def no_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that closes late is not killed before it has written that it is closed."""
    monkeypatch.setattr(module, "_CLOSE_SECONDS", 600.0)


def test_no_connection_stays_open_if_the_process_cannot_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[Connection] = []

    def kept(context: object) -> tuple[Connection, Connection]:
        made[:] = multiprocessing.Pipe()
        return made[0], made[1]

    def fail(_: object) -> None:
        raise BlockingIOError("Resource temporarily unavailable")

    monkeypatch.setattr(SpawnContext, "Pipe", kept)
    monkeypatch.setattr(SpawnProcess, "start", fail)
    with pytest.raises(BlockingIOError):
        Worker()
    assert [one.closed for one in made] == [True, True]


def test_calls_return_values_and_survive_exceptions() -> None:
    with Worker() as worker:
        assert worker.call(math.factorial, 5) == 120
        with pytest.raises(CallFailed, match="ValueError: "):
            worker.call(math.sqrt, -1)
        assert worker.call(multiprocessing.get_start_method) == "fork"
        assert worker.call(os.getpid) == worker.pid != os.getpid()
        with pytest.raises(CallFailed, match="pickle"):
            worker.call(opened, Path("nowhere"))  # a context manager stays in its process
        assert worker.call(math.factorial, 3) == 6


def test_a_kept_object_is_the_first_argument_and_is_closed_at_the_end(tmp_path: Path) -> None:
    with Worker() as worker:
        worker.keep(Counter, 10)
        assert [worker.call(Counter.add, 1), worker.call(Counter.add, 2)] == [11, 13]
    with Worker() as worker:
        worker.keep(opened, tmp_path / "state")
        assert worker.call(read) == "open"
    assert (tmp_path / "state").read_text() == "closed"


def test_the_reason_of_a_failure() -> None:
    with Worker() as worker:
        for kind, status, note in (
            ("import", "not installed", "No module named 'nothing'"),
            ("impossible", "not possible", "no counterpart"),
            ("memory", "out of memory", "DefaultCPUAllocator: can't allocate memory"),
            ("mistake", "failed", "give a smaller batch"),
            ("value", "failed", "ValueError: first line (called.py:"),
        ):
            with pytest.raises(CallFailed) as found:
                worker.call(raise_of, kind)
            assert found.value.status == status
            assert found.value.note.startswith(note)


def test_a_killed_process_is_out_of_memory() -> None:
    with pytest.raises(CallFailed, match="was killed") as found:
        isolated(signal.raise_signal, signal.SIGKILL)
    assert found.value.status == "out of memory"
    with pytest.raises(CallFailed, match="status 3") as found:
        isolated(os._exit, 3)
    assert found.value.status == "failed"


def test_a_late_answer_is_not_used_for_the_next_call() -> None:
    with Worker() as worker:
        with pytest.raises(CallFailed, match="no answer"):
            worker.call(time.sleep, 600, seconds=0.5)
        with pytest.raises(CallFailed, match="its process ended") as found:
            worker.call(math.factorial, 5)
        assert found.value.status == "failed"  # this process has killed it, not the system


def test_a_call_ends_when_the_process_that_made_it_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    caller = multiprocessing.get_context("spawn").Process(
        target=isolated, args=(write_and_wait, path)
    )
    caller.start()
    while not path.exists():
        assert caller.is_alive()
        time.sleep(0.02)
    called = psutil.Process(int(path.read_text()))
    caller.kill()
    caller.join()
    while runs(called):  # pytest's time limit ends this test
        time.sleep(0.02)


def test_a_worker_imports_nothing_from_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "queue.py").write_text("raise SystemExit('the file of a user was run')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    assert isolated(os.getenv, "PYTHONSAFEPATH") == "1"
    assert "PYTHONSAFEPATH" not in os.environ
