"""The times that a loader reports for its stages."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from slipform.pipelines.loader import Loader
from tests.pipelines.epochs import ON_CPU as NAMES

STAGES = {
    "dali": {"read_seconds", "feed_seconds", "dali_wait_seconds"},
    "host": {"read_seconds", "decode_seconds", "augment_seconds"},
    "resident": {"load_seconds", "augment_seconds"},
}
THREADS = 2


@pytest.mark.parametrize("executor", NAMES)
def test_stats_have_the_seconds_of_each_stage(shapes: Path, executor: str) -> None:
    """Each stage takes some time, and its threads together take no more than the available time. A
    second epoch adds to the stages of every epoch."""
    began = time.perf_counter()
    with Loader(shapes, batch_size=20, executor=executor, threads=THREADS) as loader:
        told = []
        for _ in range(2):
            assert len(list(loader)) == 12
            told.append(loader.stats())
        passed = time.perf_counter() - began
    before, after = told
    assert (before["num_images"], after["num_images"]) == (240, 480)
    assert before["num_bad"] == after["num_bad"] == 0
    seconds = {name: value for name, value in after.items() if name.endswith("_seconds")}
    stages = set(seconds) - {"plan_seconds", "wait_seconds"}
    assert stages
    assert stages == STAGES.get(executor, stages)
    # DALI reads ahead in its own thread.
    for name, value in seconds.items():
        assert 0 < value <= THREADS * passed, name  # any speed: parts of the same time
        assert value >= before[name], name
    assert after["wait_seconds"] <= passed  # any speed: a part of the same time
    for name in {"plan_seconds", "augment_seconds", "decode_seconds", "read_seconds"} & set(after):
        assert after[name] > before[name], name
