"""Sweeps as real processes: killed, interrupted, continued."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.modules import ROOT
from tests.processes import wait_for
from tests.train.machine.recorded import Script
from tests.train.sweep.commands import run_train, settings

RECIPE = settings(epochs=12)
# A sweep whose runs follow a script.
SWEEP = """
import subprocess
from types import SimpleNamespace
from slipform.train import cli
from slipform.train.sweep import jobs

def start(command, **how):
    command[command.index("slipform.train.cli")] = "tests.train.machine.recorded"
    return subprocess.Popen(command, **how)

jobs.subprocess = SimpleNamespace(**{**vars(subprocess), "Popen": start})
cli.train()
"""


def _held_sweep(folder: Path, *arguments: object) -> subprocess.Popen[str]:
    """Start a sweep whose runs begin their ninth step only when they are asked to stop: they are
    not done before, however busy the machine is."""
    return subprocess.Popen(
        [sys.executable, "-c", SWEEP, *map(str, arguments)],
        stderr=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            **Script(str(folder), hold={"9": 0}).environment(),
        },
    )


def _steps(metrics: Path) -> int:
    """The number of steps in the records of a run."""
    return metrics.read_text().count('"step"') if metrics.is_file() else 0


@pytest.mark.slow
def test_the_runs_of_a_killed_sweep_end_too(shapes: Path, tmp_path: Path) -> None:
    """kill -9: the run gets SIGTERM, writes a checkpoint and ends."""
    recipe, out = tmp_path / "one.toml", tmp_path / "out"
    recipe.write_text(RECIPE + '[[runs]]\nname = "a"\n')
    words = ["--recipe", recipe, "--all", "--set", "train.log_every_steps=1", "--out", out]
    process = _held_sweep(tmp_path, shapes, *words)
    metrics = out / "a" / "seed-0" / "metrics.jsonl"
    wait_for(process, lambda: _steps(metrics) >= 5)
    (run,) = psutil.Process(process.pid).children()
    process.kill()
    process.communicate()
    assert psutil.wait_procs([run])[1] == []
    assert list(out.rglob("step-*.pt"))


@pytest.mark.slow
def test_an_interrupted_sweep_continues(shapes: Path, tmp_path: Path) -> None:
    """Real processes. After SIGTERM during both runs, both have a checkpoint. At the end, the
    records are those of an undisturbed sweep."""
    recipe, out = tmp_path / "two.toml", tmp_path / "out"
    recipe.write_text(RECIPE + '[[runs]]\nname = "a"\n[[runs]]\nname = "b"\noptimizer.lr = 0.01\n')
    words = ["--recipe", recipe, "--all", "--jobs", 2, "--set", "train.log_every_steps=1"]
    process = _held_sweep(tmp_path, shapes, *words, "--out", out)
    files = [out / name / "seed-0" / "metrics.jsonl" for name in ("a", "b")]
    wait_for(process, lambda: all(_steps(file) >= 5 for file in files))
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate()
    assert process.returncode == 130, errors
    assert {path.parts[-4] for path in out.rglob("step-*.pt")} == {"a", "b"}
    assert not list(out.rglob("summary.json"))
    assert run_train(shapes, *words, "--out", out).exit_code == 0
    assert run_train(shapes, *words, "--out", tmp_path / "whole").exit_code == 0

    def losses(folder: Path) -> list[list[float]]:
        files = [folder / name / "seed-0" / "metrics.jsonl" for name in ("a", "b")]
        return [
            [
                x.get("loss", x.get("val_loss"))
                for x in map(json.loads, file.read_text().splitlines())
            ]
            for file in files
        ]

    assert losses(out) == losses(tmp_path / "whole")
