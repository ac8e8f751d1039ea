"""--overwrite of some runs of a sweep; a recipe that changes while its runs are trained."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from slipform.train.sweep.jobs import Job
from tests.train.sweep.commands import InThisProcess, run_train, settings

RUNS = '[[runs]]\nname = "slow"\noptimizer.lr = 0.01\n[[runs]]\nname = "fast"\n'


def _content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_other_runs_keep_their_results(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_figures: None
) -> None:
    """Their checkpoints are gone: what is removed could be made only by training again."""
    monkeypatch.setattr("slipform.train.sweep.jobs._start", InThisProcess)
    recipe, out = tmp_path / "rates.toml", tmp_path / "my sweep"
    recipe.write_text(settings(epochs=1) + RUNS)
    result = run_train(shapes, "--recipe", recipe, "--all", "--out", out)
    assert result.exit_code == 0, result.output
    kept, replaced = _content(out / "slow"), out / "fast" / "seed-0" / "metrics.jsonl"
    trained = replaced.read_bytes()
    replaced.write_bytes(b"")

    one = [shapes, "--recipe", f"{recipe}:fast", "--all", "--overwrite", "--out", out]
    refused = run_train(*one, "--set", "train.epochs=3")  # the table has the settings of all runs
    assert refused.exit_code == 1
    assert "train.epochs = 1, not 3" in refused.stderr
    assert "overwrite all runs" in refused.stderr
    assert replaced.read_bytes() == b""

    result = run_train(*one)
    assert result.exit_code == 0, result.output
    assert _content(out / "slow") == kept
    assert len(replaced.read_bytes()) > len(trained) / 2
    table = (out / "table.md").read_text()
    assert "not finished" not in table
    command = re.search("Command: `(.*)`", table)
    assert command is not None
    words = ["train", str(shapes), "--recipe", str(recipe), "--all", "--out", str(out)]
    assert shlex.split(command[1]) == words


def test_a_run_with_settings_that_the_table_does_not_have_is_an_error(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_figures: None
) -> None:
    """The process of each run reads the recipe again, perhaps hours later."""
    recipe, out = tmp_path / "rates.toml", tmp_path / "sweep"
    recipe.write_text(settings(epochs=1) + RUNS)

    class Edited(InThisProcess):
        def __init__(self, job: Job, arguments: list[str], cores: set[int]) -> None:
            super().__init__(job, arguments, cores)
            recipe.write_text(recipe.read_text().replace("lr = 0.05", "lr = 0.06"))

    monkeypatch.setattr("slipform.train.sweep.jobs._start", Edited)
    result = run_train(shapes, "--recipe", recipe, "--all", "--out", out)
    assert result.exit_code == 1
    assert "1 of 2 runs failed; the first: fast seed-0 failed: the recipe" in result.stderr
    assert "optimizer.lr = 0.06, not 0.05" in result.stderr
    table = (out / "table.md").read_text()
    assert table.count("while the sweep ran") == 1
    assert "not finished" not in table
