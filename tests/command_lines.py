"""Checks of Slipform's command lines in pages and messages, without running them.

In: the words of a command line. Out: nothing, or a failed test.
"""

from __future__ import annotations

import shlex

import click
import pytest

from slipform.bench.cli import main as bench
from slipform.cli import main as slipform
from slipform.preprocess.cli import main as prep
from slipform.train.cli import predict, train, validate

COMMANDS: dict[str, click.Command] = {
    "slipform": slipform,
    "prep": prep,
    "train": train,
    "validate": validate,
    "predict": predict,
    "bench": bench,
}


def parse(words: list[str]) -> None:
    """Parse a command line with click, without running it. The test fails if click refuses it."""
    name, *rest = words
    if name == "torchrun":
        start = next(word for word in ("slipform", "slipform.train.cli") if word in words)
        name, *rest = words[words.index(start) :]
        name = name if name in COMMANDS else "train"
    command = COMMANDS[name]
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        name, *rest = rest
        found = command.get_command(click.Context(command), name)
        assert found is not None, f"no command {name} in: {shlex.join(words)}"
        command = found
    try:
        command.make_context(name, rest)
    except click.exceptions.Exit:  # --help, --version
        pass
    except click.UsageError as error:
        pytest.fail(f"{shlex.join(words)}: {error.format_message()}")


def next_commands(output: str) -> list[str]:
    """The lines below "next:" in the output of a command. The test fails if click refuses one."""
    _, found, rest = output.partition("\nnext:\n")
    assert found, output
    lines = [line.strip() for line in rest.splitlines() if line.startswith("  ")]
    assert lines, output
    for line in lines:
        parse(["." if word == "IMAGE..." else word for word in shlex.split(line)])
    return lines
