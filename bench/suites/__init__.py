"""The suites: every file here is a subcommand of `bench` and a kind of row. Adding one is one file.

A file opens with a docstring whose first line is the help of `bench`, and defines `command`, a
click command, and `LAYOUT`, a slipform.bench.result.layout.Layout: how its rows are shown. Its
command ends with `finish`. It imports torch and what measures only inside functions, because
`--help` imports it.
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


def suite_names() -> list[str]:
    """The names of the files in this folder."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def layouts() -> dict[str, Layout]:
    """How the rows of every suite are shown, by its name, in the order of the report."""
    found = {name: importlib.import_module(f"{__name__}.{name}").LAYOUT for name in suite_names()}
    return dict(sorted(found.items(), key=lambda pair: pair[1].rank))


def say(text: str) -> None:
    """Print a line of progress on standard error."""
    click.echo(text, err=True)


def finish(suite: str, rows: list[Row], out: Path | None, environment: Environment) -> None:
    """Write the result of a suite and print its table.

    Args:
        suite: The suite's name.
        rows: What was measured.
        out: The JSON file; None: runs/bench/SUITE.json.
        environment: As it was before the measurements.
    """
    from slipform.bench.result.environment import command_line
    from slipform.bench.result.result import Result, write_result
    from slipform.bench.result.tables import STAGES, constants, markdown, stage_cells, table

    path = out or Path("runs/bench") / f"{suite}.json"
    write_result(path, Result(environment=environment, command=command_line(), rows=rows))
    click.echo(f"{environment.machine}; commit {environment.commit}; {constants(rows)}")
    click.echo(
        "Median and 95 % interval of the median (of fewer than six repeats: smallest and"
        " largest).\n"
    )
    click.echo(table(rows, importlib.import_module(f"{__name__}.{suite}").LAYOUT))
    if stages := stage_cells(rows):
        click.echo(f"\n{STAGES}\n\n{markdown(*stages)}")
    click.echo(f"\nwritten to {path}")
