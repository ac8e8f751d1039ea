"""Exceptions in the consumer of a loader at random moments.

The next batches are those of an undisturbed loader, or the loader is closed.
tests/pipelines/test_interrupts.py raises at chosen lines.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.drills import soak
from tests.pipelines.epochs import ON_CPU as NAMES

ROOT = Path(__file__).parents[2]


def _soak(data: Path, executor: str, seconds: int, seed: int, count: Callable[[str], None]) -> None:
    ended = subprocess.run(
        [sys.executable, "-P", soak.__file__, str(data), executor, str(seconds), str(seed)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    found = json.loads(ended.stdout.splitlines()[-1])
    count(f"soak {executor} {seconds} s: {found}")
    assert not found["wrong"], (found, ended.stderr[-3000:])


@pytest.mark.parametrize("executor", NAMES)
def test_a_short_soak(shapes: Path, executor: str, count: Callable[[str], None]) -> None:
    _soak(shapes, executor, 4, 0, count)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("executor", NAMES)
def test_a_long_soak(
    shapes: Path, executor: str, count: Callable[[str], None], amount: Callable[[str, int], int]
) -> None:
    """$SLIPFORM_DRILL_SECONDS with each executor."""
    _soak(shapes, executor, amount("seconds", 900), amount("seed", 1), count)
