"""The example commands in the help texts are commands that the parser accepts."""

from __future__ import annotations

import inspect
import re
import shlex
from pathlib import Path

import pytest

from tests.command_lines import COMMANDS, below, parse
from tests.console_blocks import commands

_BEGIN = re.compile(r"^ *Examples?:(.*)$")


def examples(text: str) -> list[str]:
    """The commands of a help text: after "Example:" up to an empty line.

    Args:
        text: The help text, as the source has it. A line that does not begin with a command belongs
            to the line before. An explanation is two spaces or more behind a command.
    """
    found: list[str] = []
    inside = False
    for line in inspect.cleandoc(text).splitlines():
        begin = _BEGIN.match(line)
        inside = bool(begin) or (inside and bool(line.strip()))
        words = re.split(r" {2,}", (begin[1] if begin else line).strip())[0]
        if not inside or not words:
            continue
        if found and words.split()[0] not in COMMANDS:
            found[-1] += f" {words}"
        else:
            found.append(words)
    return [line for one in found for line in commands(one)]


HELP = {
    " ".join(words): list(
        dict.fromkeys(examples(f"{command.help or ''}\n\n{command.epilog or ''}"))
    )
    for name, root in COMMANDS.items()
    for words, command in below(root, [name])
}


def test_the_examples_of_a_text() -> None:
    text = """Do it.

    \b
    Examples:
      train data --set train.epochs=1
          --quiet
      prep show data     what it has

    Example: train other
    """
    assert examples(text) == [
        "train data --set train.epochs=1 --quiet", "prep show data", "train other",
    ]  # fmt: skip
    assert examples("Example: bench a\n\n   bench b\n") == ["bench a"]


@pytest.mark.parametrize("name", [name for name, lines in HELP.items() if lines])
def test_the_examples_of_a_command_are_valid(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photos").mkdir()
    for file in ("photo.jpg", "airbench94_muon.py", "README.md"):
        (tmp_path / file).touch()
    monkeypatch.chdir(tmp_path)
    for line in HELP[name]:
        parse(shlex.split(line))


def test_commands_have_examples() -> None:
    """Else the search for them would be wrong."""
    assert len({line for lines in HELP.values() for line in lines}) > 50
