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
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slipform.pipelines.errors import DatasetError

if TYPE_CHECKING:
    from slipform.bench.result.layout import Layout
    from slipform.bench.result.result import Environment, Result, Row, Settings


__all__ = ["Kept", "finish", "layouts", "say", "suite_names"]


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


class Kept:
    """The rows that the same command measured before it was stopped.

    It is the same command if its words, the commit without changes, the machine, the versions of
    all packages and the datasets are the same. Rows of what failed are not kept.

    Args:
        suite: The name of the suite.
        out: As for `finish`.
        environment: The environment of this command.
        folders: The dataset folders.

    Attributes:
        rows: The key of each case -> its row.
    """

    def __init__(
        self, suite: str, out: Path | None, environment: Environment, folders: Iterable[Path]
    ) -> None:
        from slipform.bench.result.environment import command_line

        self.rows: dict[str, Row] = {}
        partial = _partial(_path(suite, out))
        before = _read(partial)
        if before is None:
            return
        if (
            environment.commit.endswith("-dirty")
            or _conditions(environment, command_line())
            != _conditions(before.environment, before.command)
            or any(_is_newer(folder, before.environment.date) for folder in folders)
        ):
            old = partial.with_name(f"{partial.name}.old")
            partial.replace(old)
            say(
                f"{partial} is of another command, commit, machine or dataset, of other versions of"
                " packages, or of changed files: all is measured again. The file is renamed to"
                f" {old}"
            )
            return
        self.rows = {
            _key(row.case): row
            for row in before.rows
            if row.status not in ("failed", "out of memory")
        }
        say(f"going on after the {len(self.rows)} rows in {partial}; to begin anew, delete it")

    def of(self, *cases: Settings) -> Sequence[Row]:
        """The rows of cases that are measured together.

        Args:
            cases: The cases.

        Returns:
            Their rows; none if one of the cases was not measured.
        """
        keys = [_key(case) for case in cases]
        return [self.rows[key] for key in keys] if set(keys) <= set(self.rows) else ()


def _read(partial: Path) -> Result | None:
    from slipform.bench.result.result import read_result

    if not partial.is_file():
        return None
    try:
        return read_result(partial)
    except DatasetError as error:
        say(f"{error} All is measured again.")
        return None


def _is_newer(folder: Path, date: str) -> bool:
    """Whether prep wrote a dataset after a date, ISO 8601."""
    written = (folder / "dataset.json").stat().st_mtime
    return written > datetime.fromisoformat(date).timestamp()


def _path(suite: str, out: Path | None) -> Path:
    return out or Path("runs/bench") / f"{suite}.json"


def _partial(path: Path) -> Path:
    return path.with_name(f"{path.name}.partial")


def _key(case: Settings) -> str:
    return json.dumps(case, sort_keys=True)


def _conditions(environment: Environment, command: str) -> tuple[object, ...]:
    fixed = environment.model_dump(exclude={"date", "load_average"})
    return command, json.dumps(fixed, sort_keys=True)


def finish(
    suite: str,
    rows: Iterable[Row],
    out: Path | None,
    environment: Environment,
    kept: Kept | None = None,
) -> list[Row]:
    """Write the result of a suite, and print its table.

    What was measured before a suite stops is kept: while the rows come, they are in the file
    OUT.partial. `Kept` reads it.

    Args:
        suite: The name of the suite.
        rows: The rows. They may be measured while they are asked for. A row replaces an earlier one
            of the same case.
        out: The JSON file to write; None: runs/bench/SUITE.json.
        environment: The environment before the measurements.
        kept: The rows that were measured before. They stay in OUT.partial. None: there are none.

    Returns:
        The rows.
    """
    from slipform.bench.result.environment import command_line
    from slipform.bench.result.result import Result, write_result
    from slipform.bench.result.tables import STAGES, constants, markdown, stage_cells, table

    path = _path(suite, out)
    partial = _partial(path)
    measured: dict[str, Row] = dict(kept.rows) if kept else {}

    def write(to: Path) -> None:
        found = list(measured.values())
        write_result(to, Result(environment=environment, command=command_line(), rows=found))

    try:
        for row in rows:
            measured[_key(row.case)] = row
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
