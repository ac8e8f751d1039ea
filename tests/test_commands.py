"""The commands as a shell finds them: they start, answer --help quickly, and agree with each
other."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import click
import pytest

from slipform.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SCRIPTS = PROJECT["scripts"]
LINES = [*SCRIPTS, *(f"slipform {name}" for name in COMMANDS), "python -P -m slipform"]
HEAVY = {"torch", "torchvision", "numba", "cv2", "nvidia", "matplotlib", "scipy", "PIL"}


def bash(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a line as a user's shell does, with this environment's commands first on the path."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-c", line],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("line", LINES)
def test_help_answers_in_half_a_second(line: str, tmp_path: Path) -> None:
    """Processor time, so that a busy machine does not fail it; the best of three."""
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = bash(f"{line} --help", tmp_path)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("Usage: ")
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(seconds) < 0.5, f"{min(seconds):.2f} s of processor time"


@pytest.mark.parametrize("arguments", [[], *([name] for name in COMMANDS)], ids=str)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; from slipform.cli import main\n"
        f"main({[*arguments, '--help']}, standalone_mode=False)\n"
        f"print({HEAVY} & {{name.partition('.')[0] for name in sys.modules}})"
    )
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


def test_short_forms_are_the_subcommands() -> None:
    """`export` has none: a shell's builtin of that name would win over it."""
    assert SCRIPTS.pop("slipform") == "slipform.cli:main"
    assert {name: COMMANDS[name][0] for name in SCRIPTS} == SCRIPTS
    assert set(COMMANDS) - set(SCRIPTS) == {"export", "doctor", "list"}


def test_every_subcommand_is_a_command_with_help() -> None:
    for name, (target, line) in COMMANDS.items():
        module, _, attribute = target.partition(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command), name
        assert command.help, name
        assert line.endswith("."), name


def test_an_unknown_subcommand_is_refused(tmp_path: Path) -> None:
    done = bash("slipform trian", tmp_path)
    assert done.returncode == 2
    assert "No such command 'trian'" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_version_comes_from_one_place(tmp_path: Path) -> None:
    done = bash("slipform --version", tmp_path)
    assert (done.returncode, done.stdout) == (0, f"slipform {PROJECT['version']}\n")
