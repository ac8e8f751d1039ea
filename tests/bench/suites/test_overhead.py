"""The time of the consumer is that of its thread's clock."""

import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from threading import local
from typing import Any

import pytest

from slipform.bench.result.result import Estimate, Row
from slipform.bench.suites.overhead import measure, verdict, waits
from slipform.pipelines.rendering import pool, prepare


def test_the_consumers_time_is_its_threads_own(
    shapes_raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread clock that advances by a second at each reading, which is one second per round."""
    monkeypatch.setitem(vars(pool), "prepared", prepare.prepared)  # `measure` replaces it
    ticks = count()
    monkeypatch.setattr(time, "thread_time", lambda: float(next(ticks)))
    found = measure(str(shapes_raw), "resident", 16, "cpu")
    assert set(found) == {
        "consumer_seconds",
        "batch_seconds",
        "host_seconds",
        "epoch_start_seconds",
        "next_batch_seconds",
    }
    own = found["consumer_seconds"]
    assert (own.low, own.median, own.high) == (1 / 200, 1 / 200, 1 / 200)
    assert own.repeats == found["batch_seconds"].repeats == 7
    assert 0 < found["batch_seconds"].median != own.median


@pytest.mark.parametrize("executor", ["host", "resident"])
def test_the_hosts_time_is_that_of_all_threads_less_the_kernels(
    shapes_raw: Path, monkeypatch: pytest.MonkeyPatch, executor: str
) -> None:
    """A simulated clock: a kernel takes 10 ms, and all other work of a round a second."""
    rounds, own, calls, prepared = count(), local(), list[float](), prepare.prepared

    def counted(*arguments: Any) -> Any:
        kernel, rest = prepared(*arguments)

        def render(*given: Any) -> None:
            kernel(*given)
            own.seconds = getattr(own, "seconds", 0.0) + 0.01
            calls.append(0.01)

        return render, rest

    monkeypatch.setattr("slipform.pipelines.loader.num_threads", lambda device: 1)
    monkeypatch.setattr(pool, "prepared", counted)
    monkeypatch.setattr(time, "thread_time", lambda: getattr(own, "seconds", 0.0))
    monkeypatch.setattr(time, "process_time", lambda: float(next(rounds)) + sum(calls))
    host = measure(str(shapes_raw), executor, 16, "cpu")["host_seconds"]
    assert host.repeats == 7
    # Two threads may render while a clock is read. The kernels of a round, 25 or more, take longer.
    assert host.median == pytest.approx(1 / 200, abs=2 * 0.01 / 200)


def test_the_waits_of_a_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """A simulated clock. The first batch of an epoch takes 5 s, each other one 1 s, an end 2 s."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(time, "sleep", sleep)

    class Epochs:
        def __iter__(self) -> Iterator[int]:
            for number in range(3):
                sleep(1.0 if number else 5.0)
                yield number
            sleep(2.0)

    assert waits(Epochs(), 100.0) == ([7.0] * 7, [1.0] * 7)


def _row(**seconds: float) -> Row:
    figures = {
        name: Estimate(median=value, low=value, high=value, repeats=7)
        for name, value in seconds.items()
    }
    return Row(suite="overhead", case={"loader": "host", "batch_size": 64}, figures=figures)


def test_the_verdict_has_both_threads_extremes() -> None:
    rows = [
        _row(consumer_seconds=67e-6, host_seconds=454e-6),
        _row(consumer_seconds=33.3e-6, host_seconds=75.2e-6),
        _row(consumer_seconds=50e-6),
    ]
    found = verdict([rows[:1], rows[1:]])
    assert found is not None
    assert found.value == "33.3 µs to 67.0 µs"
    assert "needs 33.3 µs to 67.0 µs of" in found.sentence
    assert "All threads together need 75.2 µs to 454 µs" in found.sentence
    assert "waits" not in found.sentence
    waiting = verdict([[*rows, _row(epoch_start_seconds=2e-5, next_batch_seconds=1e-5)]])
    assert waiting is not None
    assert "waits 20.0 µs for the first batch of an epoch, and 10.0 µs for" in waiting.sentence
    alone = verdict([rows[2:]])
    assert alone is not None
    assert alone.value == "50.0 µs"
    assert "All threads" not in alone.sentence
    assert verdict([[_row(batch_seconds=1.0)]]) is None
