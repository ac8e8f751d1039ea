"""Exceptions in the consumer of a loader at random moments.

The next batches are those of an undisturbed loader, or the loader is closed.
tests/pipelines/test_interrupts.py raises at chosen lines.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.drills import soak
from tests.pipelines.epochs import ON_CPU as NAMES
from tests.warm import Warm


def _soak(
    warm: Warm, data: Path, executor: str, seconds: int, seed: int, count: Callable[[str], None]
) -> None:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    arguments = (data, executor, seconds, seed)
    ended = warm.run_file(Path(soak.__file__), *arguments, environment=environment)
    assert ended.returncode == 0, ended.stderr[-3000:]
    found = json.loads(ended.stdout.splitlines()[-1])
    count(f"soak {executor} {seconds} s: {found}")
    assert not found["wrong"], (found, ended.stderr[-3000:])


@pytest.mark.parametrize(
    "executor", [pytest.param(n, marks=() if n == "host" else pytest.mark.slow) for n in NAMES]
)
def test_a_short_soak(
    warm_process: Warm, shapes: Path, executor: str, count: Callable[[str], None]
) -> None:
    _soak(warm_process, shapes, executor, 1, 0, count)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("executor", NAMES)
def test_a_long_soak(
    warm_process: Warm, shapes: Path, executor: str, count: Callable[[str], None],
    amount: Callable[[str, int], int],
) -> None:  # fmt: skip
    """$SLIPFORM_DRILL_SECONDS with each executor."""
    _soak(warm_process, shapes, executor, amount("seconds", 900), amount("seed", 1), count)
