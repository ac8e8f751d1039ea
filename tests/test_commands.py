"""The commands, started by a shell: they start, show --help quickly, and are consistent."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from slipform.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SCRIPTS = PROJECT["scripts"]
LINES = [*SCRIPTS, *(f"slipform {name}" for name in COMMANDS), "python -P -m slipform"]
MODULES = 400
HEAVY = {"torch", "torchvision", "numba", "cv2", "nvidia", "matplotlib", "scipy", "PIL"}


def bash(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command line in bash, with the commands of this environment first on the path."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-c", line],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=280,
    )


@pytest.mark.parametrize("line", LINES)
def test_help_is_printed(line: str, tmp_path: Path) -> None:
    done = bash(f"{line} --help", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Usage: ")


@pytest.mark.parametrize("arguments", [[], *([name] for name in COMMANDS)], ids=str)
def test_help_imports_little(arguments: list[str]) -> None:
    """Imports take most of the time of --help. Their number does not depend on the machine. --help
    imports fewer than 200 modules; torch alone imports 1,200."""
    code = (
        "import sys; from slipform.cli import main\n"
        f"main({[*arguments, '--help']}, standalone_mode=False)\n"
        f"assert len(sys.modules) < {MODULES}, len(sys.modules)\n"
        f"print({HEAVY} & {{name.partition('.')[0] for name in sys.modules}})"
    )
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


def test_short_forms_are_the_subcommands() -> None:
    """`export` has no short form: a shell would run its builtin of that name."""
    short = {name: target for name, target in SCRIPTS.items() if name != "slipform"}
    assert SCRIPTS["slipform"] == "slipform.cli:main"
    assert {name: COMMANDS[name][0] for name in short} == short
    assert set(COMMANDS) - set(short) == {
        "export", "doctor", "figures", "find-lr", "list", "models", "replay", "search",
    }  # fmt: skip


def test_every_subcommand_is_a_command_with_help() -> None:
    for name, (target, line) in COMMANDS.items():
        module, _, attribute = target.partition(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command), name
        assert command.help, name
        assert line.endswith("."), name
        shown = CliRunner().invoke(command, ["-h"])
        assert shown.output.startswith("Usage: "), name
        assert shown.exit_code == 0, name


def test_an_unknown_subcommand_is_refused(tmp_path: Path) -> None:
    done = bash("slipform trian", tmp_path)
    assert done.returncode == 2
    assert "No such command 'trian'" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_version_comes_from_one_place(tmp_path: Path) -> None:
    done = bash("slipform --version", tmp_path)
    assert (done.returncode, done.stdout) == (0, f"slipform {PROJECT['version']}\n")
