"""A folder that has a run already is refused before anything else is said."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from slipform.train import cli


def _train(*arguments: object) -> Result:
    return CliRunner().invoke(cli.train, [str(argument) for argument in arguments])


def test_a_refused_folder_has_no_hints(shapes: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "config.toml").touch()
    done = _train(shapes, "--out", out)
    assert done.exit_code == 1
    assert done.output.splitlines()[0].startswith(f"Error: {out} contains a run already.")


def test_other_folders_are_not(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hint comes, and then the error of a teacher that is no run. Nothing is measured before
    it."""
    monkeypatch.setattr("slipform.train.run.open.without_auto", None)
    refused = ("--set", f"distill.teacher={tmp_path / 'none'}", "--set", "model.name=tiny")
    done = _train(shapes, "--out", tmp_path / "run", *refused)
    assert done.exit_code == 1, done.exception
    assert "is no run folder" in done.output
    assert not done.output.startswith("Error:")
    assert not (tmp_path / "run").exists()
