"""What a loader tells of its stages."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipform.pipelines.executors import NAMES
from slipform.pipelines.loader import Loader


@pytest.mark.parametrize("executor", NAMES)
def test_stats_tell_what_took_the_time(shapes: Path, executor: str) -> None:
    with Loader(shapes, batch_size=20, executor=executor, threads=2) as loader:
        assert len(list(loader)) == 12
        stats = loader.stats()
        assert stats["num_images"] == 240
        assert stats["num_bad"] == 0
        seconds = {name: value for name, value in stats.items() if name.endswith("_seconds")}
        assert {"plan_seconds", "wait_seconds"} < set(seconds)
        assert min(seconds.values()) >= 0
        assert sum(seconds.values()) > 0
