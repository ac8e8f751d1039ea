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


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("distill.teacher=none", "is no run folder"),
        ("model.weights=none.safetensors", "no such file or folder"),
    ],
)
def test_other_folders_are_not(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str, says: str
) -> None:
    """The hint comes, and then the error of a file that is not there. Nothing is measured before
    it."""
    monkeypatch.setattr("slipform.train.run.open.without_auto", None)
    monkeypatch.chdir(tmp_path)
    refused = ("--set", setting, "--set", "model.name=tiny")
    done = _train(shapes, "--out", tmp_path / "run", *refused)
    assert done.exit_code == 1, done.exception
    assert says in done.output
    assert not done.output.startswith("Error:")
    assert not (tmp_path / "run").exists()
