"""The time of the consumer is that of its thread's clock."""

import time
from itertools import count
from pathlib import Path

import pytest

from slipform.bench.suites.overhead import measure


def test_the_consumers_time_is_its_threads_own(
    shapes_raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread clock that advances by a second at each reading, which is one second per round."""
    ticks = count()
    monkeypatch.setattr(time, "thread_time", lambda: float(next(ticks)))
    found = measure(str(shapes_raw), "resident", 16, "cpu")
    assert set(found) == {"consumer_seconds", "batch_seconds"}
    own = found["consumer_seconds"]
    assert (own.low, own.median, own.high) == (1 / 200, 1 / 200, 1 / 200)
    assert own.repeats == found["batch_seconds"].repeats == 7
    assert 0 < found["batch_seconds"].median != own.median
