"""The suites: every file here is a subcommand of `bench` with its own kind of rows.

A new suite is one new file. The first line of its docstring is its line in `bench --help`. It
defines `command`, a click command that ends with `finish`, and `LAYOUT`, a
slipform.bench.result.layout.Layout for its rows. It imports torch and the measurements only inside
functions, because `--help` imports the file.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from slipform.bench.result.layout import Layout
    from slipform.bench.result.result import Environment, Row


__all__ = ["finish", "layouts", "say", "suite_names"]


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


def finish(
    suite: str, rows: Iterable[Row], out: Path | None, environment: Environment
) -> list[Row]:
    """Write the result of a suite, and print its table.

    What was measured before a suite stops is kept: while the rows come, they are in the file
    OUT.partial.

    Args:
        suite: The name of the suite.
        rows: The rows. They may be measured while they are asked for. A row replaces an earlier one
            of the same case.
        out: The JSON file to write; None: runs/bench/SUITE.json.
        environment: The environment before the measurements.

    Returns:
        The rows.
    """
    from slipform.bench.result.environment import command_line
    from slipform.bench.result.result import Result, write_result
    from slipform.bench.result.tables import STAGES, constants, markdown, stage_cells, table

    path = out or Path("runs/bench") / f"{suite}.json"
    partial = path.with_name(f"{path.name}.partial")
    measured: dict[str, Row] = {}

    def write(to: Path) -> None:
        found = list(measured.values())
        write_result(to, Result(environment=environment, command=command_line(), rows=found))

    try:
        for row in rows:
            measured[json.dumps(row.case, sort_keys=True)] = row
            write(partial)
    except BaseException:
        if measured:
            say(f"stopped: the {len(measured)} rows that were measured are in {partial}")
        raise
    write(path)
    partial.unlink(missing_ok=True)
    rows = list(measured.values())
    click.echo(f"{environment.machine}; commit {environment.commit}; {constants(rows)}")
    layout = importlib.import_module(f"{__name__}.{suite}").LAYOUT
    click.echo(f"{layout.caption}\n")
    click.echo(table(rows, layout))
    if stages := stage_cells(rows):
        click.echo(f"\n{STAGES}\n\n{markdown(*stages)}")
    click.echo(f"\nwritten to {path}")
    return rows
