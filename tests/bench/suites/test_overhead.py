"""The consumer's time: only this thread's, per batch."""

from pathlib import Path

from slipform.bench.suites.overhead import measure


def test_the_consumer_takes_less_than_a_whole_batch(shapes_raw: Path) -> None:
    """Processor time of one thread is at most the wall time that passes."""
    found = measure(str(shapes_raw), "resident", 16, "cpu")
    assert set(found) == {"consumer_seconds", "batch_seconds"}
    assert 0 < found["consumer_seconds"].median <= found["batch_seconds"].high
    assert found["consumer_seconds"].repeats == 7
