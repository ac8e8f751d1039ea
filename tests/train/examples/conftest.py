"""Fixtures of the examples: a folder with data/shapes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def reader(shapes: Path, tmp_path: Path) -> Path:
    """The working folder of the examples. It has data/shapes with 240, 60 and 60 images."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/shapes").symlink_to(shapes)
    return tmp_path


@pytest.fixture
def run_python(reader: Path) -> Callable[..., str]:
    """run_python(words, ...): run Python in `reader` with Slipform's modules. Returns its
    output."""

    def run(*words: str) -> str:
        environment = {
            **os.environ,
            "PYTHONPATH": f"{ROOT}:{reader}",
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
        }
        done = subprocess.run(
            [sys.executable, *words],
            cwd=reader,
            env=environment,
            capture_output=True,
            text=True,
            timeout=1500,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


@pytest.fixture
def last_line(run_python: Callable[..., str]) -> Callable[..., Any]:
    """Like run_python. Returns the last line, parsed as JSON."""
    return lambda *words: json.loads(run_python(*words).strip().splitlines()[-1])
