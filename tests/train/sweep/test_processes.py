"""Sweeps as real processes: killed, interrupted, continued."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.processes import wait_for
from tests.train.sweep.commands import run_train, settings

RECIPE = settings(epochs=2)


def _steps(metrics: Path) -> int:
    """The number of steps in the records of a run."""
    return metrics.read_text().count('"step"') if metrics.is_file() else 0


@pytest.mark.slow
def test_the_runs_of_a_killed_sweep_end_too(shapes: Path, tmp_path: Path) -> None:
    """kill -9: the run gets SIGTERM, writes a checkpoint and ends."""
    (tmp_path / "one.toml").write_text(RECIPE + '[[runs]]\nname = "a"\n')
    command = [
        sys.executable,
        "-m",
        "slipform.train.cli",
        str(shapes),
        "--recipe",
        str(tmp_path / "one.toml"),
        "--all",
    ]
    out, settings = (
        tmp_path / "out",
        ["--set", "train.epochs=500", "--set", "train.log_every_steps=1"],
    )
    process = subprocess.Popen([*command, *settings, "--out", str(out)], stderr=subprocess.DEVNULL)
    metrics = out / "a" / "seed-0" / "metrics.jsonl"
    wait_for(process, lambda: _steps(metrics) >= 5)
    (run,) = psutil.Process(process.pid).children()
    process.kill()
    process.wait()
    assert psutil.wait_procs([run])[1] == []
    assert list(out.rglob("step-*.pt"))


@pytest.mark.slow
def test_an_interrupted_sweep_continues(shapes: Path, tmp_path: Path) -> None:
    """Real processes. After SIGTERM during both runs, both have a checkpoint. At the end, the
    records are those of an undisturbed sweep."""
    settings = ["--set", "train.epochs=12", "--set", "train.log_every_steps=1"]
    text = RECIPE + '[[runs]]\nname = "a"\n[[runs]]\nname = "b"\noptimizer.lr = 0.01\n'
    (tmp_path / "two.toml").write_text(text)
    arguments = [
        str(shapes),
        "--recipe",
        str(tmp_path / "two.toml"),
        "--all",
        "--jobs",
        "2",
        *settings,
    ]
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-m", "slipform.train.cli", *arguments, "--out", str(out)],
        stderr=subprocess.PIPE,
    )
    files = [out / name / "seed-0" / "metrics.jsonl" for name in ("a", "b")]
    wait_for(process, lambda: all(_steps(file) >= 5 for file in files))
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate()
    assert process.returncode == 130, errors
    assert {path.parts[-4] for path in out.rglob("step-*.pt")} == {"a", "b"}
    assert not list(out.rglob("summary.json"))
    assert run_train(*arguments, "--out", out).exit_code == 0
    assert run_train(*arguments, "--out", tmp_path / "whole").exit_code == 0

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
