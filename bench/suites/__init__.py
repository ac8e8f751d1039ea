"""The suites: every file here is a subcommand of `bench` with its own kind of rows.

A new suite is one new file. The first line of its docstring is its line in `bench --help`. It
defines `command`, a click command that ends with `finish`, and `LAYOUT`, a
slipform.bench.result.layout.Layout for its rows. It imports torch and the measurements only inside
functions, because `--help` imports the file.
"""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from slipform.bench.result.layout import Layout
    from slipform.bench.result.result import Environment, Row


__all__ = ["finish", "keep", "layouts", "say", "suite_names"]


def suite_names() -> list[str]:
    """The names of all suites, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def layouts() -> dict[str, Layout]:
    """Name of a suite -> the layout of its rows, in the order of the report."""
    found = {name: importlib.import_module(f"{__name__}.{name}").LAYOUT for name in suite_names()}
    return dict(sorted(found.items(), key=lambda pair: pair[1].rank))


def say(text: str) -> None:
    """Print a message on standard error.

    Args:
        text: The message.
    """
    click.echo(text, err=True)


def keep(suite: str, rows: list[Row], out: Path | None, environment: Environment) -> Path:
    """Write the rows that a suite has so far: what is measured is kept if the suite is stopped.

    Args:
        suite: The name of the suite.
        rows: The measured rows.
        out: The JSON file to write; None: runs/bench/SUITE.json.
        environment: The environment before the measurements.

    Returns:
        The path of the JSON file.
    """
    from slipform.bench.result.environment import command_line
    from slipform.bench.result.result import Result, write_result

    path = out or Path("runs/bench") / f"{suite}.json"
    write_result(path, Result(environment=environment, command=command_line(), rows=rows))
    return path


def finish(suite: str, rows: list[Row], out: Path | None, environment: Environment) -> None:
    """Write the result of a suite, and print its table.

    Args:
        suite: The name of the suite.
        rows: The measured rows.
        out: As for `keep`.
        environment: The environment before the measurements.
    """
    from slipform.bench.result.tables import STAGES, constants, markdown, stage_cells, table

    path = keep(suite, rows, out, environment)
    click.echo(f"{environment.machine}; commit {environment.commit}; {constants(rows)}")
    layout = importlib.import_module(f"{__name__}.{suite}").LAYOUT
    click.echo(f"{layout.caption}\n")
    click.echo(table(rows, layout))
    if stages := stage_cells(rows):
        click.echo(f"\n{STAGES}\n\n{markdown(*stages)}")
    click.echo(f"\nwritten to {path}")
