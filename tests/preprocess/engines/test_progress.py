"""The progress of all shards: counts, speed and time left."""

from __future__ import annotations

from slipform.preprocess.engines.progress import ShardProgress


def test_the_counts_of_all_shards() -> None:
    """Shards that were finished before count as done, and not for the speed. A shard that is begun
    again begins at 0."""
    now, lines = [0.0], [""]

    def show(text: str, line: str) -> None:
        lines.append(f"{line} | {text}" if line else text)

    progress = ShardProgress(4000, 4, show, lambda: now[0])
    progress.finished(1, 1000, written=False)
    assert lines[-1] == "shard 1/4: was finished before | 1/4 shards, 1,000/4,000 images"
    now[0] = 100.0
    progress.images(2, 0)
    assert lines[-1] == "1/4 shards, 1,000/4,000 images"
    now[0] = 110.0
    progress.images(2, 500)
    assert lines[-1] == "1/4 shards, 1,500/4,000 images, 50 images/s, 0:00:50 left"
    progress.images(3, 500)
    assert lines[-1] == "1/4 shards, 2,000/4,000 images, 100 images/s, 0:00:20 left"
    progress.images(2, 0)
    assert lines[-1] == "1/4 shards, 1,500/4,000 images, 50 images/s, 0:00:50 left"
    now[0] = 120.0
    progress.finished(2, 1000, written=True)
    assert lines[-1] == (
        "shard 2/4: written | 2/4 shards, 2,500/4,000 images, 75 images/s, 0:00:20 left"
    )
    before = list(lines)
    progress.images(2, 700)  # a late report
    assert lines == before
    progress.finished(3, 0, written=False, error="bad sample:\n  train a.jpg")
    assert lines[-1] == (
        "shard 3/4: failed: bad sample: | 2/4 shards, 1 failed, 2,000/4,000 images, 50 images/s,"
        " 0:00:40 left"
    )
