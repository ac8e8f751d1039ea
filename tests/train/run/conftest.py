"""A finished run of one epoch, for the tests of run folders."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slipform.pipelines.manifest import read_manifest
from slipform.train.config.run_config import RunConfig
from slipform.train.run.loop import fit
from tests.train.drawing import without_figures
from tests.train.run.scripted import script


@pytest.fixture(scope="session")
def finished(
    shapes: Path, small: Callable[..., RunConfig], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run folder that tests must not change."""
    run = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        without_figures(patch)
        fit(small("train.epochs=1"), shapes, run, device="cpu", quiet=True)
    return run


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of the run folder, for one test."""
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


# Dropout, a schedule and a random crop: everything that random numbers of the teacher could change.
STUDENT = ("model.name=cnn", "model.head=mlp", "schedule.name=cosine", "train.epochs=2")


@pytest.fixture
def student(small: Callable[..., RunConfig], run: Path) -> Callable[..., RunConfig]:
    """student("train.epochs=1"): the settings of a student of a teacher in `run`."""
    return lambda *sets: small(*STUDENT, f'distill.teacher="{run}"', *sets)


@pytest.fixture
def scripted(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """decide() with steps of `variant` that take `seconds(variant, images)`."""
    return script(monkeypatch, read_manifest(shapes), tmp_path)
