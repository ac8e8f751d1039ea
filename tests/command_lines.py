"""Checks of Slipform's command lines in pages and messages, without running them.

In: the words of a command line. Out: nothing, or a failed test.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

import click
import pytest

from slipform.bench.cli import main as bench
from slipform.cli import main as slipform
from slipform.pipelines.errors import ConfigError
from slipform.preprocess.cli import main as prep
from slipform.train.cli import predict, train, validate
from slipform.train.config.recipe import load_runs
from slipform.train.config.resolve import resolve

COMMANDS: dict[str, click.Command] = {
    "slipform": slipform,
    "prep": prep,
    "train": train,
    "validate": validate,
    "predict": predict,
    "bench": bench,
}


def below(command: click.Command, words: list[str]) -> Iterator[tuple[list[str], click.Command]]:
    """A command and all commands below it, with the words that name them.

    Args:
        command: The command.
        words: Its own name.
    """
    yield words, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from below(found, [*words, name])


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
        context = command.make_context(name, rest)
        _check_settings(context.params)
    except click.exceptions.Exit:  # --help, --version
        pass
    except (click.UsageError, ConfigError) as error:
        pytest.fail(f"{shlex.join(words)}: {error.format_message()}")


def _check_settings(params: dict[str, Any]) -> None:
    """Check the recipe and the settings of a command line, if it has them."""
    recipe = params.get("recipe") or ""
    sets = [text for name in ("sets", "both", "a", "b") for text in params.get(name) or ()]
    if recipe.endswith(".toml") or any(text.startswith("augment.own.") for text in sets):
        return  # a file of the page
    if recipe or sets:
        loaded, runs = load_runs(recipe) if recipe else (None, [])
        for run in runs or [None]:
            resolve(loaded, sets, run=run)


def next_commands(output: str) -> list[str]:
    """The lines below "next:" in the output of a command. The test fails if click refuses one."""
    _, found, rest = output.partition("\nnext:\n")
    assert found, output
    lines = [line.strip() for line in rest.splitlines() if line.startswith("  ")]
    assert lines, output
    for line in lines:
        parse(["." if word == "IMAGE..." else word for word in shlex.split(line)])
    return lines
